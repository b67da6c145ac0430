//! What a publisher, a lane and a consumer promise, on a broker that behaves.

mod support;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use everpulse_transport::{
    ErrorKind, Lane, Limits, Message, Position, PublisherOptions, Subscription, SubscriptionKind,
};
use support::{number_of, numbered, on_each_arm, publisher, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_in_the_order_of_the_calls_at_the_confirmed_positions() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let publisher = publisher(&transport, "history-partition-1");
        let receipts: Vec<_> = (0..200).map(|number| publisher.publish(numbered(Some("k"), number))).collect();
        let mut positions = Vec::new();
        for receipt in receipts {
            positions.push(soon("receipt", receipt).await.expect("stored").expect("a position"));
        }
        assert!(positions.windows(2).all(|pair| pair[1].follows(pair[0])), "{positions:?}");

        let subscription = Subscription::new("history", "janitor", SubscriptionKind::Exclusive);
        let mut consumer = transport.subscribe(subscription).await.expect("subscribed");
        for (number, position) in (0..200).zip(&positions) {
            let delivery = soon("delivery", consumer.recv()).await;
            assert_eq!((number_of(&delivery), delivery.position), (number, *position));
            assert_eq!((delivery.partition, delivery.key.as_deref()), (1, Some("k")));
            assert!(delivery.publish_time_ms > 0);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_messages_do_not_come_again_and_others_do() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        transport.set_up_queue("mail").await.expect("set up");
        let publisher = publisher(&transport, "activity.mail");
        for number in 0..10 {
            publisher.publish(numbered(None, number)).await.expect("stored");
        }
        let workers = || Subscription::new("activity.mail", "workers", SubscriptionKind::Shared);
        let mut first = transport.subscribe(workers()).await.expect("subscribed");
        let acker = first.acker();
        for _ in 0..10 {
            let delivery = soon("delivery", first.recv()).await;
            if number_of(&delivery).is_multiple_of(2) {
                acker.ack(delivery.token);
            }
        }
        first.close().await;
        let mut second = transport.subscribe(workers()).await.expect("subscribed");
        let mut rest = HashSet::new();
        while rest.len() < 5 {
            let delivery = soon("delivery", second.recv()).await;
            rest.insert(number_of(&delivery));
        }
        assert_eq!(rest, HashSet::from([1, 3, 5, 7, 9]));
        let nacked = soon("a message that is nacked comes again", async {
            publisher.publish(numbered(None, 100)).await.expect("stored");
            let delivery = second.recv().await;
            second.acker().nack(delivery.token);
            second.recv().await
        })
        .await;
        assert_eq!(number_of(&nacked), 100);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_goes_to_one_of_two_consumers_and_in_order() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let owners = |name: &str| {
            Subscription::new("inbox", "owners", SubscriptionKind::KeyShared).queue(10).consumer_name(name)
        };
        let mut one = transport.subscribe(owners("one")).await.expect("subscribed");
        let mut two = transport.subscribe(owners("two")).await.expect("subscribed");
        let publishers = [publisher(&transport, "inbox-partition-0"), publisher(&transport, "inbox-partition-1")];
        let (keys, each) = (40_u64, 20_u64);
        for number in 0..each {
            for key in 0..keys {
                let publisher = &publishers[(key % 2) as usize];
                drop(publisher.publish(numbered(Some(&format!("shard-{key}")), number)));
            }
        }
        let mut seen: HashMap<(String, u8), Vec<u64>> = HashMap::new();
        soon("all of them", async {
            for _ in 0..keys * each {
                let (delivery, consumer, acker) = tokio::select! {
                    delivery = one.recv() => (delivery, 1, one.acker()),
                    delivery = two.recv() => (delivery, 2, two.acker()),
                };
                acker.ack(delivery.token);
                let key = delivery.key.clone().expect("a key");
                seen.entry((key, consumer)).or_default().push(number_of(&delivery));
            }
        })
        .await;
        let of = |consumer| seen.keys().filter(|key| key.1 == consumer).count() as u64;
        assert_eq!(of(1) + of(2), keys, "a key was at both: {seen:?}");
        assert!(of(1) > 0 && of(2) > 0, "{} and {}", of(1), of(2));
        for (key, numbers) in &seen {
            assert_eq!(*numbers, (0..each).collect::<Vec<_>>(), "{key:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_from_another_consumer_counts() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let owners = |name: &str| Subscription::new("inbox", "owners", SubscriptionKind::KeyShared).consumer_name(name);
        let mut holder = transport.subscribe(owners("holder")).await.expect("subscribed");
        publisher(&transport, "inbox-partition-0").publish(numbered(Some("k"), 7)).await.expect("stored");
        let held = soon("delivery", holder.recv()).await;
        let other = transport.subscribe(owners("other")).await.expect("subscribed");
        other.acker().ack(held.token);
        other.close().await;
        holder.close().await;
        publisher(&transport, "inbox-partition-0").publish(numbered(Some("k"), 8)).await.expect("stored");
        let mut third = transport.subscribe(owners("third")).await.expect("subscribed");
        assert_eq!(number_of(&soon("delivery", third.recv()).await), 8);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_message_comes_after_one_that_is_not() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let relay = Subscription::new("timers", "relay", SubscriptionKind::Shared);
        let mut consumer = transport.subscribe(relay).await.expect("subscribed");
        let timers = publisher(&transport, "timers");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let due = u64::try_from(now.as_millis()).expect("fits") + 2_000;
        let delayed = Message { deliver_at_ms: Some(due), ..numbered(None, 1) };
        timers.publish(delayed).await.expect("stored");
        timers.publish(numbered(None, 2)).await.expect("stored");
        assert_eq!(number_of(&soon("delivery", consumer.recv()).await), 2);
        assert_eq!(number_of(&soon("delivery", consumer.recv()).await), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn non_persistent_topics_carry_replies() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let replies = transport.non_persistent("replies.c1");
        let subscription = Subscription::new(&replies, "client", SubscriptionKind::Exclusive).queue(1000);
        let mut consumer = transport.subscribe(subscription).await.expect("subscribed");
        let publisher = publisher(&transport, &replies);
        for number in 0..100 {
            assert_eq!(publisher.publish(numbered(None, number)).await.expect("sent"), None);
            assert_eq!(number_of(&soon("delivery", consumer.recv()).await), number);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_is_refused_and_harms_nobody() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let publisher = publisher(&transport, "timers");
        let error = publisher.publish(Message::new(None, vec![0; 5 * 1024 * 1024])).await.expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("5242880 bytes"), "{error}");
        let largest = Message::new(None, vec![0; 5 * 1024 * 1024 - 64 * 1024]);
        soon("the largest", publisher.publish(largest)).await.expect("stored");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_gathers_while_a_frame_is_in_flight() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let lane = Lane::new(
            publisher(&transport, "history-partition-0"),
            Some("shard-0".to_owned()),
            Limits { items_max: 1000, bytes_max: 1 << 20 },
            |_: &u64| 8,
            |items| items.iter().flat_map(|item| item.to_be_bytes()).collect::<Vec<u8>>().into(),
        );
        let sends: Vec<_> = (0..10_000).map(|item| lane.send(item)).collect();
        let mut positions: Vec<Position> = Vec::new();
        for send in sends {
            positions.push(soon("confirmed", send).await.expect("stored").expect("a position"));
        }
        assert!(positions.is_sorted());
        let frames = transport.read("history-partition-0", None, None).await.expect("read");
        // Ten thousand items in frames of at most a thousand; the first left alone or nearly so.
        assert!((10..100).contains(&frames.len()), "{} frames", frames.len());
        let mut items = Vec::new();
        for frame in &frames {
            let count = frame.payload.len() / 8;
            assert!(count <= 1000);
            assert_eq!(positions.iter().filter(|position| **position == frame.position).count(), count);
            items.extend(frame.payload.chunks(8).map(|item| u64::from_be_bytes(item.try_into().expect("eight"))));
        }
        assert_eq!(items, (0..10_000).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_refuses_only_the_item_that_fits_nowhere() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let lane = Lane::new(
            transport.publisher("timers", PublisherOptions::default()),
            None,
            Limits::default(),
            // Says too little, so that they meet in one frame.
            |_: &Bytes| 1,
            |items: &[Bytes]| items.concat().into(),
        );
        let first = lane.send(Bytes::from_static(b"first"));
        let sends = [
            lane.send(Bytes::from_static(b"before")),
            lane.send(Bytes::from(vec![0; 6 * 1024 * 1024])),
            lane.send(Bytes::from_static(b"after")),
        ];
        soon("stored", first).await.expect("stored");
        let mut outcomes = Vec::new();
        for send in sends {
            outcomes.push(soon("an outcome", send).await.map(drop).map_err(|error| error.kind()));
        }
        assert_eq!(outcomes, [Ok(()), Err(ErrorKind::TooLarge), Ok(())]);
    })
    .await;
}
