//! What a set-up makes, what it leaves alone, and what it refuses.

mod support;

use everpulse_transport::{Address, ErrorKind, Options, SetUp, Transport};
use serde_json::{Value, json};
use support::{Arm, numbered, on_each_arm, publisher, pulsar_urls, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_set_up_changes_nothing_and_takes_what_is_there() {
    on_each_arm(async |arm| {
        let transport = arm.connect().await;
        assert_eq!(transport.layout().await.expect("an answer"), None);
        let wanted = SetUp::default().shards(Some(3)).inbox_partitions(Some(2));
        let first = transport.set_up(&wanted).await.expect("set up");
        assert_eq!((first.shards, first.inbox_partitions), (3, 2));
        let before = policies(&transport).await;

        assert_eq!(transport.set_up(&wanted).await.expect("set up"), first);
        assert_eq!(transport.set_up(&SetUp::default()).await.expect("set up"), first);
        assert_eq!(policies(&transport).await, before);
        assert_eq!(transport.layout().await.expect("an answer"), Some(first));

        let error = transport.set_up(&SetUp::default().shards(Some(4))).await.expect_err("another count");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("shards is 4 here, but this application was set up with 3"), "{error}");
        let error = transport.set_up(&SetUp::default().inbox_partitions(Some(1))).await.expect_err("another count");
        assert!(error.to_string().contains("inbox_partitions is 1"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_can_set_up_at_once() {
    on_each_arm(async |arm| {
        let transports = futures::future::join_all((0..4).map(|_| arm.connect())).await;
        let wanted = SetUp::default().shards(Some(2)).inbox_partitions(Some(2));
        let set_up = transports.iter().map(|transport| async {
            let layout = transport.set_up(&wanted).await?;
            transport.set_up_queue("mail").await?;
            Ok::<_, everpulse_transport::Error>(layout)
        });
        for layout in soon("set up", futures::future::join_all(set_up)).await {
            assert_eq!(layout.expect("set up").shards, 2);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_before_anybody_subscribes_waits() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        transport.set_up_queue("mail").await.expect("set up");
        for (topic, subscription) in [
            ("inbox-partition-1", "owners"),
            ("history-partition-1", "janitor"),
            ("timers", "relay"),
            ("inbox.dead", "operators"),
            ("activity.mail", "workers"),
            ("activity.mail.dead", "operators"),
        ] {
            publisher(&transport, topic).publish(numbered(None, 1)).await.expect("stored");
            let stats = transport.stats(topic).await.expect("statistics");
            let backlog = &stats["subscriptions"][subscription]["msgBacklog"];
            assert_eq!(backlog, &json!(1), "{topic} {subscription}: {stats}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_gone_is_made_anew_from_the_earliest_message() {
    on_each_arm(async |arm| {
        let transport = arm.transport().await;
        let (topic, subscription) = ("history-partition-1", "janitor");
        let history = publisher(&transport, topic);
        let mut positions = Vec::new();
        for number in 0..3 {
            positions.extend(history.publish(numbered(None, number)).await.expect("stored"));
        }
        transport.delete_subscription(topic, subscription).await.expect("it was there");
        let gone = transport.skip_to(topic, subscription, positions[1]).await.expect_err("it is gone");
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");

        for _ in 0..2 {
            transport.ensure_subscription(topic, subscription).await.expect("made");
        }
        let backlog = async || {
            let stats = transport.stats(topic).await.expect("statistics");
            stats["subscriptions"][subscription]["msgBacklog"].as_u64().expect("a number")
        };
        assert_eq!(backlog().await, 3);
        transport.skip_to(topic, subscription, positions[1]).await.expect("it is there");
        soon("the cursor moves", async {
            while backlog().await != 1 {
                tokio::task::yield_now().await
            }
        })
        .await;
        let nowhere = transport.ensure_subscription("history-partition-99", subscription).await.expect_err("no topic");
        assert_eq!(nowhere.kind(), ErrorKind::NotFound, "{nowhere}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_a_bad_name_is_refused() {
    on_each_arm(async |arm| {
        let error = arm.transport().await.set_up_queue("a/b").await.expect_err("a slash");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contradicting_policy_is_refused_by_name() {
    on_each_arm(async |arm| {
        for (policy, body, named) in [
            ("deduplication", json!(false), "deduplicationEnabled"),
            ("messageTTL", json!(60), "message_ttl_in_seconds is 60"),
            (
                "inactiveTopicPolicies",
                json!({
                    "inactiveTopicDeleteMode": "delete_when_no_subscriptions",
                    "maxInactiveDurationSeconds": 60,
                    "deleteWhileInactive": true,
                }),
                "deleteWhileInactive",
            ),
            (
                "backlogQuota?backlogQuotaType=destination_storage",
                json!({"limitSize": 1_000_000, "limitTime": -1, "policy": "consumer_backlog_eviction"}),
                "backlog_quota_map limits destination_storage to 1000000",
            ),
        ] {
            let transport = arm.in_fresh_namespace().await;
            let namespace = namespace_url(&transport);
            let http = reqwest::Client::new();
            // The tenant `public` is there on both arms.
            let created = http.put(&namespace).json(&json!({})).send().await.expect("an answer");
            assert!(created.status().is_success(), "{created:?}");
            let set = http.post(format!("{namespace}/{policy}")).json(&body).send().await.expect("an answer");
            assert!(set.status().is_success(), "{policy}: {set:?}");

            let error = transport.set_up(&SetUp::default()).await.expect_err("a contradiction");
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains(named), "{error}");
            assert_eq!(transport.layout().await.expect("an answer"), None, "nothing was made");
        }
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_broker_is_named_with_what_to_do() {
    // Bound and dropped: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    for scheme in ["pulsar", "pulsar+ssl"] {
        let address: Address = format!("{scheme}://{port}").parse().expect("a good address");
        let options = Options::default().connect_timeout(std::time::Duration::from_millis(200));
        let error = soon("an error", Transport::connect(&address, options)).await.expect_err("unreachable");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("cannot connect to {scheme}://{port}")) && text.contains("running"), "{text}");
    }
}

#[tokio::test]
async fn a_broker_that_wants_a_token_is_understood() {
    let broker = support::turnstile::start().await;
    let address: Address = broker.parse().expect("a good address");
    for address in [address.clone(), address.with_token("wrong")] {
        let error = soon("an error", Transport::connect(&address, Options::default())).await.expect_err("no entry");
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        let text = error.to_string();
        assert!(text.contains("Failed to authenticate") && text.contains("EVERPULSE_TOKEN"), "{text}");
        assert!(!text.contains("wrong"), "{text}");
    }
}

#[tokio::test]
async fn a_missing_token_file_is_named() {
    let address = "pulsar://127.0.0.1:1".parse::<Address>().expect("good").with_token_file("/no/such/token");
    let error = Transport::connect(&address, Options::default()).await.expect_err("no file");
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.to_string().contains("/no/such/token"), "{error}");
}

#[tokio::test]
async fn a_wrong_admin_address_is_named() {
    support::logging();
    let Some((service, _)) = pulsar_urls() else {
        eprintln!("NOT RUN on Apache Pulsar: EVERPULSE_TEST_PULSAR_URL is not set");
        return;
    };
    let arm = Arm::pulsar(&service, "http://127.0.0.1:1");
    let transport = arm.connect().await;
    let error = soon("an error", transport.set_up(&SetUp::default())).await.expect_err("no admin");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("EVERPULSE_ADMIN_URL"), "{error}");
}

fn namespace_url(transport: &Transport) -> String {
    let address = transport.address();
    format!("{}/admin/v2/namespaces/{}/{}", transport.admin_url(), address.tenant(), address.namespace())
}

async fn policies(transport: &Transport) -> Value {
    let answer = reqwest::get(namespace_url(transport)).await.expect("an answer");
    serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON")
}
