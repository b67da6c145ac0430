//! What breaks between a process and its broker, and that nothing is lost by it.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use everpulse_transport::{
    Address, ErrorKind, Lane, Limits, Options, PublisherOptions, Subscription, SubscriptionKind, Transport,
};
use support::proxy::Proxy;
use support::{Arm, number, number_of, numbered, on_each_arm, publisher, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unload_under_load_loses_nothing() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let mut consumer = transport
            .subscribe(Subscription::new("inbox", "owners", SubscriptionKind::KeyShared).queue(20))
            .await
            .expect("subscribed");
        let acker = consumer.acker();
        let publisher = publisher(&transport, "inbox-partition-0");
        let total = 2_000;
        let publishing = async {
            for number in 0..total {
                let key = format!("shard-{}", number % 7);
                drop(publisher.publish_until_confirmed(numbered(Some(&key), number)));
                if number % 500 == 250 {
                    transport.unload("inbox-partition-0").await.expect("unloaded");
                }
            }
        };
        let consuming = async {
            let mut seen = HashSet::new();
            while (seen.len() as u64) < total {
                let delivery = consumer.recv().await;
                acker.ack(delivery.token);
                seen.insert(number_of(&delivery));
            }
        };
        soon("all of them", async { tokio::join!(publishing, consuming) }).await;
        // Stored exactly once each: the resent ones were recognised.
        let entries = transport.read("inbox-partition-0", None, None).await.expect("read");
        let numbers: HashSet<u64> = entries.iter().map(|entry| number(&entry.payload)).collect();
        assert_eq!(numbers.len() as u64, total);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_count_after_the_consumer_was_rebuilt() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let owners = || Subscription::new("inbox", "owners", SubscriptionKind::KeyShared);
        let mut consumer = transport.subscribe(owners()).await.expect("subscribed");
        let publisher = publisher(&transport, "inbox-partition-0");
        for number in 0..10 {
            publisher.publish(numbered(Some("k"), number)).await.expect("stored");
        }
        let mut tokens = Vec::new();
        for _ in 0..10 {
            tokens.push(soon("delivery", consumer.recv()).await.token);
        }
        transport.unload("inbox-partition-0").await.expect("unloaded");
        // They come again; the acks of the first deliveries count for them.
        let again = soon("again", consumer.recv()).await;
        assert!(tokens.contains(&again.token));
        for token in tokens {
            consumer.acker().ack(token);
        }
        consumer.close().await;
        soon("stored", publisher.publish_until_confirmed(numbered(Some("k"), 10))).await.expect("stored");
        let mut next = transport.subscribe(owners()).await.expect("subscribed");
        assert_eq!(number_of(&soon("delivery", next.recv()).await), 10);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_accepts_and_closes_is_outlived() {
    on_each_arm(async |arm| {
        let (proxy, transport) = behind_proxy(arm).await;
        let mut consumer = transport
            .subscribe(Subscription::new("inbox", "owners", SubscriptionKind::KeyShared))
            .await
            .expect("subscribed");
        let mut reader = transport.reader("inbox-partition-0", None);
        let publisher = publisher(&transport, "inbox-partition-0");
        for round in 0..3 {
            soon("stored", publisher.publish_until_confirmed(numbered(Some("k"), round))).await.expect("stored");
            soon("delivery", async { while number_of(&consumer.recv().await) != round {} }).await;
            assert_eq!(number(&soon("entry", reader.next()).await.payload), round);

            // Each of them has tried, in vain.
            let attempts = proxy.accepts(10);
            proxy.accept_and_close();
            let tried = publisher.publish_until_confirmed(numbered(None, 1_000));
            tokio::select! {
                () = soon("attempts", attempts) => {}
                _ = async { loop { reader.next().await; } } => {}
                _ = tried => panic!("there was no broker"),
            }
            proxy.heal();
            soon("stored", publisher.publish_until_confirmed(numbered(None, 2_000))).await.expect("stored");
            soon("entry", async { while number(&reader.next().await.payload) != 2_000 {} }).await;
        }
        assert!(consumer.rebuilt() > 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_starting_is_waited_for() {
    on_each_arm(async |arm| {
        let (proxy, transport) = behind_proxy(arm).await;
        let mut consumer = transport
            .subscribe(Subscription::new("inbox", "owners", SubscriptionKind::KeyShared))
            .await
            .expect("subscribed");
        let publisher = publisher(&transport, "inbox-partition-0");
        soon("stored", publisher.publish_until_confirmed(numbered(Some("k"), 1))).await.expect("stored");
        soon("delivery", consumer.recv()).await;

        proxy.not_ready();
        let told = async {
            // Each connection is asked twice: by the crate, and by hand for the broker's words.
            proxy.accepts(12).await;
            proxy.heal();
        };
        let published = publisher.publish_until_confirmed(numbered(Some("k"), 2));
        let last = transport.last_position("inbox-partition-0");
        let read = transport.read("inbox-partition-0", None, None);
        // The first comes again: it was not acknowledged.
        let delivered = async { while number_of(&consumer.recv().await) != 2 {} };
        let all = async { tokio::join!(told, published, last, read, delivered) };
        let ((), published, last, read, ()) = soon("it is ready", all).await;
        assert!(published.expect("stored").is_some());
        assert!(last.expect("an answer").is_some());
        assert!(!read.expect("entries").is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_swallows_everything_is_replaced() {
    on_each_arm(async |arm| {
        let (proxy, transport) = behind_proxy(arm).await;
        let mut consumer = transport
            .subscribe(Subscription::new("inbox", "owners", SubscriptionKind::Shared))
            .await
            .expect("subscribed");
        let mut reader = transport.reader("inbox-partition-0", None);
        let publisher = publisher(&transport, "inbox-partition-0");
        soon("stored", publisher.publish_until_confirmed(numbered(Some("k"), 1))).await.expect("stored");
        soon("delivery", consumer.recv()).await;
        soon("entry", reader.next()).await;

        let before = proxy.accepted();
        proxy.swallow_existing();
        // New connections pass; the old ones stay open and silent. Nobody is told, also not the broker: it goes on
        // giving the old consumer its share, so messages are published until the new one has got one.
        let heard = async {
            for number in 2.. {
                let stored = publisher.publish_until_confirmed(numbered(None, number));
                tokio::pin!(stored);
                loop {
                    tokio::select! {
                        biased;
                        delivery = consumer.recv() => if number_of(&delivery) >= 2 { return },
                        stored = &mut stored => break assert!(stored.expect("stored").is_some()),
                    }
                }
            }
        };
        let read = async { while number(&reader.next().await.payload) != 2 {} };
        let last = transport.last_position("inbox-partition-0");
        let ((), (), last) = soon("recovery", async { tokio::join!(heard, read, last) }).await;
        assert!(last.expect("an answer").is_some());
        assert!(proxy.accepted() > before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_heard_again_though_the_broker_holds_the_silent_connection_for_alive() {
    on_each_arm(async |arm| {
        let direct = arm.transport().await;
        let (proxy, transport) = behind_proxy(arm).await;
        let topic = transport.non_persistent("replies.c1");
        let mut consumer = transport
            .subscribe(Subscription::new(topic.clone(), "client", SubscriptionKind::Exclusive))
            .await
            .expect("subscribed");
        let publisher = direct.publisher(&topic, PublisherOptions::default());
        for _ in 0..2 {
            // What is published while nobody can be reached is lost, so it is published until it is heard.
            let heard = async {
                while tokio::time::timeout(Duration::from_millis(100), consumer.recv()).await.is_err() {
                    publisher.publish(numbered(None, 1)).await.expect("sent");
                }
            };
            // The broker gives a silent connection up after a minute.
            tokio::time::timeout(Duration::from_secs(45), heard).await.expect("heard");
            proxy.swallow_existing();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_keeps_everything_over_cuts_and_in_order_of_first_arrival() {
    on_each_arm(async |arm| {
        let (proxy, transport) = behind_proxy(arm).await;
        let lane = Lane::new(
            publisher(&transport, "history-partition-0"),
            None,
            Limits { items_max: 50, bytes_max: 1 << 20 },
            |_: &u64| 8,
            |items| items.iter().flat_map(|item| item.to_be_bytes()).collect::<Vec<u8>>().into(),
        );
        let sends: Vec<_> = (0..2_000).map(|item| lane.send(item)).collect();
        for (index, send) in sends.into_iter().enumerate() {
            if index % 400 == 100 {
                proxy.cut();
            }
            soon("confirmed", send).await.expect("stored");
        }
        let mut firsts = Vec::new();
        for entry in transport.read("history-partition-0", None, None).await.expect("read") {
            for item in entry.payload.chunks(8) {
                let item = u64::from_be_bytes(item.try_into().expect("eight"));
                if !firsts.contains(&item) {
                    firsts.push(item);
                }
            }
        }
        assert_eq!(firsts, (0..2_000).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_receipt_is_an_unknown_outcome_and_no_broker_is_not() {
    on_each_arm(async |arm| {
        let (proxy, transport) = behind_proxy(arm).await;
        let options = PublisherOptions::default().timeout(Duration::from_secs(1));
        let publisher = transport.publisher("inbox-partition-0", options);
        soon("stored", publisher.publish_until_confirmed(numbered(None, 1))).await.expect("stored");
        proxy.swallow();
        let error = soon("time-out", publisher.publish(numbered(None, 2))).await.expect_err("no receipt");
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        let error = soon("time-out", publisher.publish(numbered(None, 3))).await.expect_err("no broker");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("not sent"), "{error}");
        proxy.heal();
        soon("stored", publisher.publish_until_confirmed(numbered(None, 4))).await.expect("stored");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_whose_answer_was_lost_keeps_no_messages() {
    on_each_arm(async |arm| {
        let (proxy, transport) = behind_proxy(arm).await;
        let mut consumer = transport
            .subscribe(Subscription::new("inbox", "owners", SubscriptionKind::KeyShared).queue(20))
            .await
            .expect("subscribed");
        // Others use the same connection, and go on using it.
        let mut reader = transport.reader("history-partition-0", None);
        transport.last_position("history-partition-0").await.expect("an answer");
        proxy.withhold_success();
        transport.unload("inbox-partition-0").await.expect("unloaded");
        // By then it was given up and tried anew.
        soon("answers withheld", proxy.withheld(8)).await;
        proxy.pass_success();
        let publisher = publisher(&transport, "inbox-partition-0");
        let publishing = async {
            for number in 0..100 {
                let stored = publisher.publish_until_confirmed(numbered(Some(&format!("key-{number}")), number));
                stored.await.expect("stored");
            }
        };
        let consuming = async {
            let mut seen = HashSet::new();
            while seen.len() < 100 {
                let delivery = consumer.recv().await;
                consumer.acker().ack(delivery.token);
                seen.insert(number_of(&delivery));
            }
        };
        let reading = async { reader.next().await };
        tokio::select! {
            ((), ()) = soon("every key", async { tokio::join!(publishing, consuming) }) => {}
            _ = reading => panic!("nothing was written there"),
        }
    })
    .await;
}

/// An application whose traffic passes a proxy.
async fn behind_proxy(arm: &Arm) -> (Proxy, Transport) {
    let direct = arm.transport().await;
    let proxy = Proxy::start(&direct.service_url()).await;
    let (tenant, namespace) = (direct.address().tenant(), direct.address().namespace());
    let address: Address =
        format!("{}/{tenant}/{namespace}?admin={}", proxy.url, direct.admin_url()).parse().expect("a good address");
    let transport = Transport::connect(&address, Options::default()).await.expect("connected");
    proxy.keep(direct);
    (proxy, transport)
}

#[cfg(feature = "embedded")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_takes_the_embedded_broker_over_and_everything_goes_on() {
    support::logging();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = Address::embedded(dir.path());
    let first = Transport::connect(&address, Options::default()).await.expect("opened");
    let second = Transport::connect(&address, Options::default()).await.expect("joined");
    assert!(first.holds_broker() && !second.holds_broker());
    second
        .set_up(&everpulse_transport::SetUp::default().shards(Some(1)).inbox_partitions(Some(1)))
        .await
        .expect("set up");
    let mut consumer =
        second.subscribe(Subscription::new("inbox", "owners", SubscriptionKind::KeyShared)).await.expect("subscribed");
    let mut reader = second.reader("inbox-partition-0", None);
    let publisher = publisher(&second, "inbox-partition-0");
    soon("stored", publisher.publish(numbered(Some("k"), 1))).await.expect("stored");
    assert_eq!(number_of(&soon("delivery", consumer.recv()).await), 1);
    assert_eq!(number(&soon("entry", reader.next()).await.payload), 1);

    soon("closed", first.close()).await;
    soon("stored", publisher.publish_until_confirmed(numbered(Some("k"), 2))).await.expect("stored");
    soon("delivery", async { while number_of(&consumer.recv().await) != 2 {} }).await;
    assert_eq!(number(&soon("entry", reader.next()).await.payload), 2);
    assert!(second.holds_broker());
}
