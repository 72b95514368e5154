//! The policy's wildcards against nats-server's own decisions.
//!
//! The guard grants patterns and the server enforces them; were the two to read a wildcard differently, the
//! policy would say one thing and the bus do another. Each run draws new random cases; a failure prints the
//! seed, and `SEALBUS_SEED=…` repeats it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::BTreeSet;

use nkeys::KeyPair;
use sealbus_envelope::subject::Pattern;
use sealbus_tests::{
    callout::{Answer, Callout, User},
    random::Random,
    raw::{RawClient, session},
    server::{ServerSpec, TestServer},
};

fn matches(pattern: &str, text: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches_str(text)
}

fn covers(wide: &str, narrow: &str) -> bool {
    Pattern::parse(wide).unwrap().covers(&Pattern::parse(narrow).unwrap())
}

fn tokens(random: &mut Random, from: &[&str], last: &[&str]) -> String {
    let mut tokens: Vec<&str> = (0..random.below(4)).map(|_| *random.pick(from)).collect();
    let last: &str = random.pick::<&str>(last);
    tokens.push(last);
    tokens.join(".")
}

fn subject(random: &mut Random) -> String {
    tokens(random, &["a", "b", "ab"], &["a", "b", "ab"])
}

fn pattern(random: &mut Random) -> String {
    tokens(random, &["a", "b", "ab", "*", "*"], &["a", "b", "*", ">"])
}

/// A server where the token `n` is granted the `n`th list, to publish and to subscribe.
async fn granting(lists: Vec<Vec<String>>) -> (TestServer, Callout) {
    let server = TestServer::start(ServerSpec::default()).await;
    let callout = Callout::start(&server, move |request| {
        let list = &lists[request.token().parse::<usize>().unwrap()];
        Answer::Admit(User { publish: list.clone(), subscribe: list.clone(), ..User::default() })
    })
    .await;
    (server, callout)
}

async fn connect(server: &TestServer, n: usize) -> RawClient {
    RawClient::connect(&server.address(), session(&n.to_string(), &KeyPair::new_user())).await.unwrap()
}

#[tokio::test]
async fn the_server_delivers_exactly_what_a_pattern_matches() {
    let mut random = Random::new();
    let patterns: Vec<String> = (0..250).map(|_| pattern(&mut random)).collect();
    let subjects: BTreeSet<String> = (0..250).map(|_| subject(&mut random)).collect();
    let (server, _callout) = granting(vec![vec![">".to_owned()]]).await;
    let mut client = connect(&server, 0).await;
    let mut subscriptions = Vec::new();
    for pattern in &patterns {
        subscriptions.push((client.subscribe(pattern, None).await.unwrap(), pattern));
    }
    for subject in &subjects {
        client.publish(subject, "").await.unwrap();
        let arrived: BTreeSet<u64> =
            client.arrived().await.unwrap().iter().map(|message| message.sid).collect();
        for (sid, pattern) in &subscriptions {
            let delivered = arrived.contains(sid);
            assert_eq!(matches(pattern, subject), delivered, "pattern {pattern}, subject {subject}");
        }
    }
}

#[tokio::test]
async fn the_server_grants_what_an_allowed_pattern_covers_and_one_known_thing_more() {
    let mut random = Random::new();
    let lists: Vec<Vec<String>> =
        (0..10).map(|_| (0..=random.below(3)).map(|_| pattern(&mut random)).collect()).collect();
    let (server, _callout) = granting(lists.clone()).await;
    for (n, allowed) in lists.iter().enumerate() {
        let mut client = connect(&server, n).await;
        let asked: BTreeSet<String> = (0..80).map(|_| pattern(&mut random)).collect();
        for pattern in &asked {
            let accepted = client.subscribe(pattern, None).await.is_ok();
            // nats-server takes the wildcards of the pattern asked for as text, so a grant of `a.*` lets
            // `a.>` in. The guard's permission lists close that gap; here it is pinned down exactly.
            let as_text = allowed.iter().any(|wide| matches(wide, pattern));
            let covered = allowed.iter().any(|wide| covers(wide, pattern));
            let widened = pattern.strip_suffix('>').is_some_and(|above| {
                allowed.iter().any(|wide| wide.ends_with('*') && matches(wide, &format!("{above}x")))
            });
            assert_eq!(accepted, as_text, "allowed {allowed:?}, subscribe {pattern}");
            assert_eq!(accepted, covered || widened, "allowed {allowed:?}, subscribe {pattern}");
        }
        let subjects: BTreeSet<String> = (0..80).map(|_| subject(&mut random)).collect();
        for subject in &subjects {
            let accepted = client.publish(subject, "").await.is_ok();
            let granted = allowed.iter().any(|wide| matches(wide, subject));
            assert_eq!(accepted, granted, "allowed {allowed:?}, publish {subject}");
        }
    }
}
