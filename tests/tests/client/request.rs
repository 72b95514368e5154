//! Requests and replies.

use std::time::Duration;

use sealbus_client::{ErrorKind, envelope::reason::Reason};

use super::*;

const LONG: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_to_its_asker_alone() {
    let bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "worker").await);
    let requests = bob.serve("ask.>").await.unwrap();
    let serving = tokio::spawn(requests.answer(|asked| async move { asked.payload().to_ascii_uppercase() }));
    for text in ["one", "two", "three"] {
        let reply = soon("a reply", ann.request("ask.shout", text, LONG)).await.unwrap();
        assert_eq!((reply.sender(), reply.payload()), ("bob", text.to_uppercase().as_bytes()));
        assert_eq!(reply.parents().len(), 1, "derived from the request");
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_get_each_its_own_reply() {
    let bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "worker").await);
    let mut requests = bob.serve("ask.echo").await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            tokio::spawn(async move {
                let payload = request.message().payload().to_vec();
                request.respond(payload).await.unwrap();
            });
        }
    });
    let asking: Vec<_> = (0..50)
        .map(|n: u32| {
            let ann = ann.clone();
            tokio::spawn(async move { (n, ann.request("ask.echo", n.to_be_bytes(), LONG).await.unwrap()) })
        })
        .collect();
    for asked in asking {
        let (n, reply) = soon("a reply", asked).await.unwrap();
        assert_eq!(reply.payload(), n.to_be_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_responder_the_asker_is_told_at_once() {
    let bus = bus().await;
    let ann = join(&bus, "ann", "writer").await;
    let error = soon("a denial", ann.request("ask.shout", "x", LONG)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Denied, Some(Reason::NoResponder)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_responder_is_a_timeout() {
    let bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "worker").await);
    let mut requests = bob.serve("ask.>").await.unwrap();
    let asked = ann.request("ask.shout", "x", Duration::from_secs(2));
    let error = soon("a timeout", asked).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(soon("the request", requests.next()).await.unwrap().message().payload(), b"x");
}
