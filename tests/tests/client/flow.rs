//! Messages from publishers to subscribers.

use sealbus_client::{Event, Publish, RekeyReason, Subscribe, envelope::reason::Reason};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_with_where_it_comes_from() {
    let bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "reader").await);
    let mut findings = bob.subscribe("findings.>").await.unwrap();
    let publish = Publish::json("findings.risk", &vec!["one", "two"]).unwrap();
    let receipt = ann.send_confirmed(publish).await.unwrap();

    let message = next(&mut findings).await;
    assert_eq!(message.json::<Vec<String>>().unwrap(), ["one", "two"]);
    assert_eq!((message.sender(), message.sender_team()), ("ann", "writer"));
    assert_eq!((message.subject(), message.rule()), ("findings.risk", "findings"));
    assert_eq!(message.label_text(), "internal/-/untrusted");
    assert_eq!((message.digest(), *message.decision()), (receipt.digest, receipt.decision));
    let provenance = message.provenance().to_string();
    assert!(provenance.contains(ann.token()) && provenance.contains("internal/-/untrusted"), "{provenance}");
    ann.close().await.unwrap();
    bob.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_arrive_in_order_and_none_twice() {
    const COUNT: u32 = 20_000;
    let bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "reader").await);
    let mut news = bob.subscribe("news.>").await.unwrap();
    let mut events = bob.events();
    let reading = tokio::spawn(async move {
        for n in 0..COUNT {
            assert_eq!(next(&mut news).await.payload(), n.to_be_bytes());
        }
    });
    for n in 0..COUNT {
        ann.publish("news.tick", n.to_be_bytes()).await.unwrap();
    }
    ann.flush().await.unwrap();
    soon("all of them", reading).await.unwrap();
    bob.close().await.unwrap();
    while let Some(event) = events.next().await {
        assert!(
            !matches!(event, Event::GapSeen { .. } | Event::Dropped { .. } | Event::Refused { .. }),
            "{event}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_later_gets_the_key_in_use() {
    let bus = bus().await;
    let ann = join(&bus, "ann", "writer").await;
    ann.publish_confirmed("news.a", "nobody hears this").await.unwrap();
    let bob = join(&bus, "bob", "reader").await;
    let mut news = bob.subscribe("news.>").await.unwrap();
    ann.publish_confirmed("news.a", "bob hears this").await.unwrap();
    assert_eq!(next(&mut news).await.payload(), b"bob hears this");
    let cid = join(&bus, "cid", "guest").await;
    let mut public = cid.subscribe("news.a").await.unwrap();
    ann.publish_confirmed("news.a", "both").await.unwrap();
    assert_eq!(next(&mut public).await.payload(), b"both");
    assert_eq!(next(&mut news).await.payload(), b"both");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_derived_is_labelled_as_high_as_what_it_derives_from() {
    let bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "reader").await);
    let mut to_bob = bob.subscribe("findings.>").await.unwrap();
    let mut to_ann = ann.subscribe("findings.>").await.unwrap();
    let secret = ann.label("secret/deps/untrusted").unwrap();
    ann.send_confirmed(Publish::new("findings.raw", "x").label(secret)).await.unwrap();
    let raw = next(&mut to_bob).await;

    bob.send_confirmed(Publish::new("findings.merged", "y").parent(&raw)).await.unwrap();
    let merged = next(&mut to_ann).await;
    assert_eq!((merged.subject(), merged.label()), ("findings.merged", secret));
    assert_eq!(merged.parents(), [raw.as_parent()]);

    let low = bob.label("public/-/untrusted").unwrap();
    let refused = bob.send(Publish::new("findings.low", "y").parent(&raw).label(low)).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::BelowParents));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_group_shares_the_work() {
    const COUNT: usize = 200;
    let bus = bus().await;
    let ann = join(&bus, "ann", "writer").await;
    let (one, two) = (join(&bus, "one", "worker").await, join(&bus, "two", "worker").await);
    let mut first = one.subscribe("jobs.*").await.unwrap();
    let mut second = two.subscribe_with(Subscribe::new("jobs.*").queue("workers")).await.unwrap();
    for n in 0..COUNT {
        ann.publish("jobs.build", n.to_string()).await.unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    let (mut to_first, mut to_second) = (0, 0);
    let all = async {
        while seen.len() < COUNT {
            let message = tokio::select! {
                Some(message) = first.next() => { to_first += 1; message }
                Some(message) = second.next() => { to_second += 1; message }
            };
            assert!(seen.insert(message.payload().to_vec()), "handled twice");
        }
    };
    soon("all jobs", all).await;
    assert!(to_first > 0 && to_second > 0, "{to_first} and {to_second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_does_not_hold_messages_up_or_lose_any() {
    let bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "reader").await);
    let mut news = bob.subscribe("news.>").await.unwrap();
    let mut events = ann.events();
    ann.publish_confirmed("news.a", "before").await.unwrap();
    ann.rekey(Some("news")).unwrap();
    ann.publish_confirmed("news.a", "meanwhile").await.unwrap();
    let rekeyed = |event: &Event| matches!(event, Event::Rekeyed { why: RekeyReason::Rotation, .. });
    event(&mut events, "a new key", rekeyed).await;
    ann.publish_confirmed("news.a", "after").await.unwrap();
    for text in ["before", "meanwhile", "after"] {
        assert_eq!(next(&mut news).await.payload(), text.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_reader_leaves_the_key_is_replaced() {
    let bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "reader").await);
    let mut news = bob.subscribe("news.>").await.unwrap();
    ann.publish_confirmed("news.a", "x").await.unwrap();
    next(&mut news).await;
    let mut events = ann.events();
    drop(news);
    bob.close().await.unwrap();
    let rekeyed = |event: &Event| matches!(event, Event::Rekeyed { why: RekeyReason::Guard(_), .. });
    event(&mut events, "a new key", rekeyed).await;
    ann.publish_confirmed("news.a", "y").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_in_the_connection_that_nobody_reads() {
    let bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "reader").await);
    let mut news = bob.subscribe("news.>").await.unwrap();
    for n in 0u32..100 {
        ann.publish("news.a", n.to_be_bytes()).await.unwrap();
    }
    for _ in 0..100 {
        next(&mut news).await;
    }
    let empty = async {
        while bob.backlog() > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("an empty connection", empty).await;
}
