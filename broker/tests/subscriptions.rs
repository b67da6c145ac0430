//! Subscriptions, command by command: the same on our broker and on an Apache Pulsar.
//!
//! `EVERPULSE_TEST_PULSAR_URL=pulsar://127.0.0.1:6650` makes every test here run against that one. It must
//! acknowledge within batches (`acknowledgmentAtBatchIndexLevelEnabled=true`, which is not its default).

mod support;

use everpulse_broker::wire::messages::*;
use support::session::{Session, Target, at, batch, fresh, now_ms};

const METADATA_ERROR: i32 = 1;
const CONSUMER_BUSY: i32 = 5;
const NOT_ALLOWED: i32 = 22;
const CONSUMER_ASSIGN: i32 = 19;

const EXCLUSIVE: i32 = 0;
const SHARED: i32 = 1;
const FAILOVER: i32 = 2;
const KEY_SHARED: i32 = 3;

async fn keyed(session: &mut Session, producer: u64, key: &str) -> MessageIdData {
    session.publish(producer, b"x", |metadata| metadata.partition_key = Some(key.into())).await
}

async fn plain(session: &mut Session, producer: u64) -> MessageIdData {
    session.publish(producer, b"x", |_| {}).await
}

fn sticky(ranges: &[(i32, i32)]) -> Option<KeySharedMeta> {
    let hash_ranges = ranges.iter().map(|(start, end)| IntRange { start: *start, end: *end }).collect();
    Some(KeySharedMeta { mode: 1, hash_ranges, allow_out_of_order_delivery: None })
}

// covers: exclusive, subscribe
#[tokio::test]
async fn another_type_is_refused_while_there_are_consumers() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("types");
    session.consumer(&topic, 1, |_| {}).await;
    for kind in [EXCLUSIVE, FAILOVER, KEY_SHARED] {
        let (code, words) = session.subscribe(&topic, 2, |command| command.sub_type = kind).await.expect_err("refused");
        assert_eq!(code, CONSUMER_BUSY);
        assert!(words.contains("Subscription is of different type. Active subscription type of 'Shared'"), "{words}");
    }
    session.close(1).await;
    session.subscribe(&topic, 3, |command| command.sub_type = EXCLUSIVE).await.expect("the only one decides");
    let (code, words) =
        session.subscribe(&topic, 4, |command| command.sub_type = EXCLUSIVE).await.expect_err("refused");
    assert_eq!((code, &*words), (CONSUMER_BUSY, "Exclusive consumer is already connected"));
}

// covers: key_shared
#[tokio::test]
async fn key_shared_policies_must_agree() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("policies");
    let out_of_order = Some(KeySharedMeta { allow_out_of_order_delivery: Some(true), ..Default::default() });
    session.consumer(&topic, 1, |command| command.sub_type = KEY_SHARED).await;
    let others = [
        (
            sticky(&[(0, 65535)]),
            "mode of 'AUTO_SPLIT' is different than the connecting consumer's key_shared mode 'STICKY'",
        ),
        (out_of_order, "does not allow out of order delivery while the connecting consumer allows it"),
    ];
    for (meta, expected) in others {
        let refused = session.subscribe(&topic, 2, |command| {
            (command.sub_type, command.key_shared_meta) = (KEY_SHARED, meta);
        });
        let (code, words) = refused.await.expect_err("refused");
        assert_eq!(code, CONSUMER_BUSY);
        assert!(words.contains(expected), "{words}");
    }
}

// covers: key_shared_sticky
#[tokio::test]
async fn ranges_that_overlap_or_are_missing_are_refused() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("ranges");
    let with = |ranges: &'static [(i32, i32)]| {
        move |command: &mut CommandSubscribe| {
            (command.sub_type, command.key_shared_meta) = (KEY_SHARED, sticky(ranges));
        }
    };
    session.consumer(&topic, 1, with(&[(0, 99)])).await;
    for (ranges, expected) in [
        (&[][..], "Ranges for KeyShared policy must not be empty"),
        (&[(9, 3)][..], "Fixed hash range start > end"),
        (&[(50, 150)][..], "Range conflict with consumer"),
        (&[(99, 99)][..], "Range conflict with consumer"),
        (&[(200, 300), (250, 260)][..], "Consumer's own ranges conflict: "),
    ] {
        // The client chooses a new id for each try.
        let (code, words) = session.subscribe(&topic, 2, with(ranges)).await.expect_err("refused");
        assert_eq!(code, CONSUMER_ASSIGN, "{words}");
        assert!(words.contains(expected), "{words}");
    }
    session.subscribe(&topic, 3, with(&[(100, 65535)])).await.expect("free");
}

/// Hash of the key `key-N` modulo 65536, as this broker has it; what arrives says whether the other agrees.
fn place(key: &str) -> i32 {
    use everpulse_broker::semantics::{hash::sticky_hash, selector::range_place};
    range_place(sticky_hash(key.as_bytes())) as i32
}

// covers: key_shared_sticky
#[tokio::test]
async fn keys_go_to_their_ranges_and_uncovered_ones_wait() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("sticky");
    let with = |range: (i32, i32)| {
        move |command: &mut CommandSubscribe| {
            (command.sub_type, command.key_shared_meta) = (KEY_SHARED, sticky(&[range]));
        }
    };
    session.consumer(&topic, 1, with((0, 20_000))).await;
    session.consumer(&topic, 2, with((40_000, 65_535))).await;
    let producer = session.producer(&topic).await;
    let (mut covered, mut waiting) = (Vec::new(), Vec::new());
    for n in 0..60 {
        let key = format!("key-{n}");
        let id = at(&keyed(&mut session, producer, &key).await);
        match place(&key) {
            ..=20_000 => covered.push((1, id)),
            40_000.. => covered.push((2, id)),
            _ => waiting.push(id),
        }
    }
    let mut arrived = Vec::new();
    for _ in 0..covered.len() {
        let message = session.message().await;
        arrived.push((message.consumer_id, at(&message.message_id)));
    }
    arrived.sort_by_key(|(_, id)| *id);
    assert_eq!(arrived, covered);
    assert!(waiting.len() > 5);
    session.consumer(&topic, 3, with((20_001, 39_999))).await;
    for id in waiting {
        let message = session.message().await;
        assert_eq!((message.consumer_id, at(&message.message_id)), (3, id));
    }
}

// covers: key_shared
#[tokio::test]
async fn keys_are_split_by_the_same_ring() {
    use everpulse_broker::semantics::hash::{Ring, ring_place, sticky_hash};
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("split");
    let mut ring = Ring::default();
    for consumer in [1, 2, 3] {
        session.consumer(&topic, consumer, |command| command.sub_type = KEY_SHARED).await;
        ring.add(consumer as u32, &format!("c{consumer}"));
    }
    let producer = session.producer(&topic).await;
    let mut expected = Vec::new();
    for n in 0..200 {
        let key = format!("key-{n}");
        let id = at(&keyed(&mut session, producer, &key).await);
        expected.push((id, ring.owner(ring_place(sticky_hash(key.as_bytes()))).map(u64::from)));
    }
    let mut arrived = Vec::new();
    for _ in 0..200 {
        let message = session.message().await;
        arrived.push((at(&message.message_id), Some(message.consumer_id)));
    }
    arrived.sort_unstable();
    assert_eq!(arrived, expected);
}

// covers: ack_batch_index, ack_receipt, redelivery_count
#[tokio::test]
async fn acks_within_a_batch_add_up_and_redelivery_says_what_is_left() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("batches");
    session.consumer(&topic, 1, |_| {}).await;
    let producer = session.producer(&topic).await;
    let payload = batch(&["a", "b", "c"]);
    let id = session.publish(producer, &payload, |metadata| metadata.num_messages_in_batch = Some(3)).await;
    let first = session.message().await;
    assert_eq!((at(&first.message_id), first.ack_set), (at(&id), vec![]));
    let part = |bits: i64| MessageIdData { ack_set: vec![bits], batch_size: Some(3), ..id.clone() };
    assert_eq!(session.ack(1, false, &[part(0b101)]).await.error, None);
    session.redeliver(1, std::slice::from_ref(&id), None).await;
    let again = session.message().await;
    assert_eq!((again.redelivery_count, again.ack_set), (Some(1), vec![0b101]));
    assert_eq!(session.ack(1, false, &[part(0b110)]).await.error, None);
    assert_eq!(session.ack(1, false, &[part(0b011)]).await.error, None);
    // All three are acknowledged: of what comes now nothing is from this batch.
    let next = plain(&mut session, producer).await;
    session.redeliver(1, &[], None).await;
    loop {
        let message = session.message().await;
        assert_eq!(at(&message.message_id), at(&next));
        if message.redelivery_count.unwrap_or(0) == 1 {
            break;
        }
        session.redeliver(1, &[], None).await;
    }
}

// covers: ack_cumulative, ack_batch_index
#[tokio::test]
async fn a_cumulative_ack_ends_within_a_batch() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("cumulative");
    session.consumer(&topic, 1, |command| command.sub_type = EXCLUSIVE).await;
    let producer = session.producer(&topic).await;
    plain(&mut session, producer).await;
    let payload = batch(&["a", "b", "c"]);
    let id = session.publish(producer, &payload, |metadata| metadata.num_messages_in_batch = Some(3)).await;
    for _ in 0..2 {
        session.message().await;
    }
    let part = MessageIdData { ack_set: vec![0b100], batch_size: Some(3), ..id.clone() };
    assert_eq!(session.ack(1, true, &[part]).await.error, None);
    session.redeliver(1, &[], None).await;
    let again = session.message().await;
    assert_eq!((at(&again.message_id), again.ack_set), (at(&id), vec![0b100]));
}

// covers: ack_cumulative
#[tokio::test]
async fn a_cumulative_ack_on_a_shared_subscription_changes_nothing() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("not-cumulative");
    session.consumer(&topic, 1, |_| {}).await;
    let producer = session.producer(&topic).await;
    let id = plain(&mut session, producer).await;
    session.message().await;
    let _ = session.ack(1, true, std::slice::from_ref(&id)).await;
    session.redeliver(1, std::slice::from_ref(&id), None).await;
    assert_eq!(at(&session.message().await.message_id), at(&id));
}

// covers: failover
#[tokio::test]
async fn failover_tells_everybody_who_is_active() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("failover");
    let with = |priority: i32| {
        move |command: &mut CommandSubscribe| {
            (command.sub_type, command.priority_level) = (FAILOVER, Some(priority));
        }
    };
    session.consumer(&topic, 1, with(5)).await;
    assert!(session.told(1).await);
    session.consumer(&topic, 2, with(9)).await;
    assert!(!session.told(2).await);
    session.consumer(&topic, 3, with(1)).await;
    assert!(session.told(3).await);
    assert!(!session.told(1).await);
    assert!(!session.told(2).await);
    session.close(3).await;
    assert!(session.told(1).await);
    assert!(!session.told(2).await);
    let producer = session.producer(&topic).await;
    plain(&mut session, producer).await;
    assert_eq!(session.message().await.consumer_id, 1);
}

// covers: failover
#[tokio::test]
async fn without_partitions_the_topics_name_chooses_who_is_active() {
    use everpulse_broker::semantics::hash::elected;
    let target = Target::start().await;
    let mut session = target.session().await;
    let names = ["alpha", "beta", "gamma"];
    for n in 0..12 {
        let topic = fresh(&format!("elected-{n}"));
        for (index, name) in names.iter().enumerate() {
            let id = n * 3 + index as u64;
            session
                .consumer(&topic, id, |command| {
                    (command.sub_type, command.consumer_name) = (FAILOVER, Some((*name).into()));
                })
                .await;
        }
        let producer = session.producer(&topic).await;
        plain(&mut session, producer).await;
        let active = session.message().await.consumer_id - n * 3;
        assert_eq!(active as usize, elected(&topic, names.into_iter()), "{topic}");
    }
}

// covers: negative_ack
#[tokio::test]
async fn what_comes_again_bears_the_epoch_of_the_request() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("epochs");
    session
        .consumer(&topic, 1, |command| {
            (command.sub_type, command.consumer_epoch) = (EXCLUSIVE, Some(0));
        })
        .await;
    let producer = session.producer(&topic).await;
    plain(&mut session, producer).await;
    assert_eq!(session.message().await.consumer_epoch, Some(0));
    session.redeliver(1, &[], Some(1)).await;
    assert_eq!(session.message().await.consumer_epoch, Some(1));
    session.redeliver(1, &[], Some(2)).await;
    assert_eq!(session.message().await.consumer_epoch, Some(2));
}

// covers: redelivery_count, negative_ack
#[tokio::test]
async fn a_shared_subscription_counts_redeliveries_and_has_no_epochs() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("again");
    session.consumer(&topic, 1, |command| command.consumer_epoch = Some(0)).await;
    let producer = session.producer(&topic).await;
    let (first, second) = (plain(&mut session, producer).await, plain(&mut session, producer).await);
    for _ in 0..2 {
        assert_eq!(session.message().await.consumer_epoch, None);
    }
    session.redeliver(1, std::slice::from_ref(&second), None).await;
    let again = session.message().await;
    assert_eq!((at(&again.message_id), again.redelivery_count), (at(&second), Some(1)));
    session.redeliver(1, &[], Some(1)).await;
    let mut counts = Vec::new();
    for _ in 0..2 {
        let message = session.message().await;
        counts.push((at(&message.message_id), message.redelivery_count.unwrap_or(0)));
    }
    counts.sort_unstable();
    assert_eq!(counts, [(at(&first), 1), (at(&second), 2)]);
}

// covers: seek_by_id
#[tokio::test]
async fn a_seek_into_a_batch_leaves_out_what_came_before() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("seek-batch");
    session.consumer(&topic, 1, |_| {}).await;
    let producer = session.producer(&topic).await;
    let payload = batch(&["a", "b", "c"]);
    let id = session.publish(producer, &payload, |metadata| metadata.num_messages_in_batch = Some(3)).await;
    session.message().await;
    assert_eq!(session.ack(1, false, std::slice::from_ref(&id)).await.error, None);
    // As the Java client does it for the message with index one.
    let to = MessageIdData { ack_set: vec![0b110], ..id.clone() };
    session.seek(CommandSeek { consumer_id: 1, message_id: Some(to), ..Default::default() }).await.expect("moved");
    session.closed(1).await;
    session.consumer(&topic, 2, |_| {}).await;
    let message = session.message().await;
    assert_eq!((message.consumer_id, at(&message.message_id), message.ack_set), (2, at(&id), vec![0b110]));
}

// covers: seek_by_time, seek_by_id
#[tokio::test]
async fn a_seek_by_time_and_one_to_the_ends() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("seek");
    let mut consumer_id = 1;
    session.consumer(&topic, consumer_id, |command| command.sub_type = EXCLUSIVE).await;
    let producer = session.producer(&topic).await;
    let start = now_ms() - 100_000;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(session.publish(producer, b"x", |metadata| metadata.publish_time = start + n * 1000).await);
        session.message().await;
    }
    let earliest = MessageIdData { ledger_id: u64::MAX, entry_id: u64::MAX, ..Default::default() };
    let seeks = [
        (CommandSeek { message_publish_time: Some(start + 1500), ..Default::default() }, 2),
        (CommandSeek { message_id: Some(ids[3].clone()), ..Default::default() }, 3),
        (CommandSeek { message_id: Some(earliest), ..Default::default() }, 0),
    ];
    for (seek, first) in seeks {
        session.seek(CommandSeek { consumer_id, ..seek }).await.expect("moved");
        session.closed(consumer_id).await;
        consumer_id += 1;
        session.consumer(&topic, consumer_id, |command| command.sub_type = EXCLUSIVE).await;
        for id in &ids[first..] {
            let message = session.message().await;
            assert_eq!((message.consumer_id, at(&message.message_id)), (consumer_id, at(id)));
        }
    }
    let latest = MessageIdData { ledger_id: i64::MAX as u64, entry_id: i64::MAX as u64, ..Default::default() };
    session.seek(CommandSeek { consumer_id, message_id: Some(latest), ..Default::default() }).await.expect("moved");
    session.closed(consumer_id).await;
    session.consumer(&topic, 90, |command| command.sub_type = EXCLUSIVE).await;
    let id = plain(&mut session, producer).await;
    assert_eq!(at(&session.message().await.message_id), at(&id));
}

// covers: seek_by_id
#[tokio::test]
async fn a_seek_disconnects_all_shared_consumers_but_only_the_active_one_of_failover() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("seek-all");
    for id in [1, 2] {
        session.consumer(&topic, id, |_| {}).await;
    }
    let producer = session.producer(&topic).await;
    let id = plain(&mut session, producer).await;
    session.message().await;
    let seek = |consumer_id| CommandSeek { consumer_id, message_id: Some(id.clone()), ..Default::default() };
    session.seek(seek(1)).await.expect("moved");
    session.closed(1).await;
    session.closed(2).await;
    for (consumer_id, priority) in [(3, 0), (4, 1)] {
        session
            .consumer(&topic, consumer_id, |command| {
                (command.sub_type, command.subscription, command.priority_level) =
                    (FAILOVER, "f".into(), Some(priority));
            })
            .await;
    }
    assert_eq!(session.message().await.consumer_id, 3);
    session.seek(seek(3)).await.expect("moved");
    session.closed(3).await;
    assert_eq!(session.stats(4).await.error_code, None, "who only waits stays");
}

// covers: unsubscribe
#[tokio::test]
async fn unsubscribing_is_refused_while_others_consume_unless_forced() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("unsubscribe");
    for id in [1, 2] {
        session.consumer(&topic, id, |_| {}).await;
    }
    let (code, words) = session.unsubscribe(1, false).await.expect_err("refused");
    assert_eq!((code, &*words), (METADATA_ERROR, "Unconnected or shared consumer attempting to unsubscribe"));
    session.unsubscribe(1, true).await.expect("forced");
    session.closed(2).await;
    // It is gone with what it had acknowledged: a new one begins where it says.
    let producer = session.producer(&topic).await;
    plain(&mut session, producer).await;
    session.consumer(&topic, 3, |command| command.initial_position = Some(0)).await;
    let id = plain(&mut session, producer).await;
    assert_eq!(at(&session.message().await.message_id), at(&id));
}

// covers: reader
#[tokio::test]
async fn readers_and_durable_subscriptions_do_not_share_a_name() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("durability");
    session.subscribe(&topic, 1, |_| {}).await.expect("subscribed");
    let earliest = MessageIdData { ledger_id: u64::MAX, entry_id: u64::MAX, ..Default::default() };
    let reader = |command: &mut CommandSubscribe| {
        (command.durable, command.start_message_id) = (Some(false), Some(earliest.clone()));
    };
    let (code, words) = session.subscribe(&topic, 2, reader).await.expect_err("refused");
    assert_eq!((code, &*words), (NOT_ALLOWED, "Durable subscription with the same name already exists."));
    session
        .subscribe(&topic, 3, |command| {
            reader(command);
            command.subscription = "r".into();
        })
        .await
        .expect("a reader");
    let (code, words) =
        session.subscribe(&topic, 4, |command| command.subscription = "r".into()).await.expect_err("refused");
    assert_eq!((code, &*words), (NOT_ALLOWED, "NonDurable subscription with the same name already exists."));
}

// covers: reader
#[tokio::test]
async fn readers_start_at_the_message_that_they_name() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("readers");
    let producer = session.producer(&topic).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(plain(&mut session, producer).await);
    }
    let within = MessageIdData { batch_index: Some(0), ..ids[2].clone() };
    let earliest = MessageIdData { ledger_id: u64::MAX, entry_id: u64::MAX, ..Default::default() };
    for (consumer_id, (start, first)) in [(ids[1].clone(), 1), (within, 2), (earliest, 0)].into_iter().enumerate() {
        let consumer_id = consumer_id as u64;
        session
            .consumer(&topic, consumer_id, |command| {
                (command.durable, command.start_message_id) = (Some(false), Some(start));
                (command.subscription, command.sub_type) = (format!("reader-{consumer_id}"), EXCLUSIVE);
                command.initial_position = None;
            })
            .await;
        for id in &ids[first..] {
            let message = session.message().await;
            assert_eq!((message.consumer_id, at(&message.message_id)), (consumer_id, at(id)));
        }
    }
}

// covers: last_message_id
#[tokio::test]
async fn the_last_message_id_tells_batch_and_mark() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("last");
    session.consumer(&topic, 1, |_| {}).await;
    let none = session.last_message_id(1).await.last_message_id;
    assert_eq!(at(&none), (u64::MAX, u64::MAX));
    let producer = session.producer(&topic).await;
    let first = plain(&mut session, producer).await;
    let payload = batch(&["a", "b", "c"]);
    let id = session.publish(producer, &payload, |metadata| metadata.num_messages_in_batch = Some(3)).await;
    for _ in 0..2 {
        session.message().await;
    }
    assert_eq!(session.ack(1, false, std::slice::from_ref(&first)).await.error, None);
    let last = session.last_message_id(1).await;
    assert_eq!((at(&last.last_message_id), last.last_message_id.batch_index), (at(&id), Some(2)));
    assert_eq!(last.consumer_mark_delete_position.as_ref().map(at), Some(at(&first)));
}

// covers: consumer_stats
#[tokio::test]
async fn consumer_stats_tell_permits_and_unacked_messages() {
    let target = Target::start().await;
    let mut session = target.session().await;
    let topic = fresh("stats");
    session.consumer(&topic, 1, |command| command.sub_type = KEY_SHARED).await;
    let producer = session.producer(&topic).await;
    let payload = batch(&["a", "b", "c"]);
    session.publish(producer, &payload, |metadata| metadata.num_messages_in_batch = Some(3)).await;
    session.message().await;
    let stats = session.stats(1).await;
    assert_eq!((stats.error_code, stats.consumer_name.as_deref()), (None, Some("c1")));
    assert_eq!((stats.available_permits, stats.unacked_messages, stats.backlog), (Some(997), Some(3), Some(1)));
    assert_eq!((stats.r#type.as_deref(), stats.blocked_on_unacked), (Some("Key_Shared"), Some(false)));
    assert!(stats.address.is_some_and(|address| address.starts_with("/127.0.0.1:")));
    let since = stats.connected_since.expect("a time");
    assert!(since.starts_with("20") && since.contains('T'), "{since}");
}

// covers: delayed_delivery
#[tokio::test]
async fn a_delayed_message_is_passed_by_others_unless_one_gets_everything() {
    let target = Target::start().await;
    let mut session = target.session().await;
    for (consumer_id, kind, passed) in
        [(1, SHARED, true), (2, KEY_SHARED, true), (3, EXCLUSIVE, false), (4, FAILOVER, false)]
    {
        let topic = fresh("delayed");
        session.consumer(&topic, consumer_id, |command| command.sub_type = kind).await;
        let producer = session.producer(&topic).await;
        let due = now_ms() as i64 + 2500;
        let late = session.publish(producer, b"x", |metadata| metadata.deliver_at_time = Some(due)).await;
        let now = plain(&mut session, producer).await;
        let order = if passed { [now, late] } else { [late, now] };
        for id in &order {
            assert_eq!(at(&session.message().await.message_id), at(id));
        }
    }
}

// covers: limits, flow
#[tokio::test]
async fn who_granted_every_permit_and_read_late_gets_everything_in_order() {
    const MESSAGES: u64 = 6000;
    let target = Target::start().await;
    let mut sending = target.session().await;
    let mut receiving = target.session().await;
    let topic = fresh("late");
    receiving.subscribe(&topic, 1, |command| command.sub_type = EXCLUSIVE).await.expect("subscribed");
    let producer = sending.producer(&topic).await;
    let last = sending.publish_many(producer, b"x", MESSAGES).await;
    // More than may wait to be written to a connection, and all of it could go at once.
    receiving.flow(1, i32::MAX as u32).await;
    let first = at(&receiving.message().await.message_id);
    let mut before = first;
    for _ in 1..MESSAGES {
        let next = at(&receiving.message().await.message_id);
        assert_eq!(next, (before.0, before.1 + 1));
        before = next;
    }
    assert_eq!(before, at(&last));
}
