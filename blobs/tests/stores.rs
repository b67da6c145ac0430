//! What a store keeps and gives back, for each that comes with Everpulse; and what is made of values by the stores of a process.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use everpulse_blobs::{
    BlobStore, Blobs, BoxFuture, BrokerStore, Bytes, Collected, Directory, Memory, Reference, StoreError, Stores,
};
use everpulse_protocol::coding::{Coding, Layer, LayerError, Place, Wrapped};
use everpulse_protocol::payload::Format;
use everpulse_protocol::{CodingError, Failure, FailureKind, Payload, WorkflowId};
use everpulse_transport::{Address, Options, SetUp, Transport};

async fn broker(dir: &Path) -> Transport {
    let address: Address = format!("embedded:{}", dir.display()).parse().expect("an address");
    let transport = Transport::connect(&address, Options::default()).await.expect("a broker");
    transport.set_up(&SetUp::default()).await.expect("set up");
    transport
}

async fn all(dir: &Path) -> Vec<Arc<dyn BlobStore>> {
    let transport = broker(&dir.join("broker")).await;
    let files = Directory::new(dir.join("files"));
    files.create().expect("it can be created");
    vec![Arc::new(Memory::new()), Arc::new(files), Arc::new(BrokerStore::new(transport, "documents"))]
}

fn bytes(byte: u8, count: usize) -> Bytes {
    (0..count).map(|at| byte.wrapping_add((at % 251) as u8)).collect()
}

async fn put(store: &dyn BlobStore, data: &Bytes) -> Reference {
    let mut reference = Reference::to(data);
    reference.at = store.put(&reference, data.clone()).await.expect("it can be put");
    reference
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_comes_back_also_when_it_was_put_twice_and_beside_others() {
    let dir = tempfile::tempdir().expect("a directory");
    for store in all(dir.path()).await {
        let datas: Vec<Bytes> = [0, 1, 1_000_000, 1024 * 1024, 5_000_000].map(|count| bytes(7, count)).into();
        let putting = datas.iter().chain(&datas).map(|data| put(&*store, data));
        let references = futures::future::join_all(putting).await;
        for (reference, data) in references.iter().zip(datas.iter().chain(&datas)) {
            let got = store.get(reference).await.expect("it is there");
            assert!(reference.is_to(&got) && got == *data, "{store:?}, {} bytes", data.len());
        }
        let mut unknown = Reference::to(b"never put");
        unknown.at.clone_from(&references[0].at);
        assert_eq!(store.get(&unknown).await, Err(StoreError::Missing), "{store:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_before_a_time_is_forgotten_and_what_was_put_again_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    for store in all(dir.path()).await {
        let (old, again) = (bytes(1, 2_000_000), bytes(2, 1_000));
        let gone = put(&*store, &old).await;
        put(&*store, &again).await;
        // File systems are not more exact than that.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = SystemTime::now();
        let young = put(&*store, &again).await;
        let collected = store.collect(now).await.expect("it can be collected");
        assert_eq!(store.get(&young).await, Ok(again), "{store:?}");
        if young.at.is_some() {
            // A topic keeps what was put again as it was, too, and forgets when the broker lets go of its ledger.
            assert_eq!((collected.blobs, collected.bytes), (2, 2_001_000), "{store:?}");
        } else {
            assert_eq!((collected.blobs, collected.bytes), (1, 2_000_000), "{store:?}");
            assert_eq!(store.get(&gone).await, Err(StoreError::Missing), "{store:?}");
        }
        let none = store.collect(SystemTime::UNIX_EPOCH).await.expect("it can be collected");
        assert_eq!(none, Collected::default(), "{store:?}");
    }
    let memory = Memory::new();
    put(&memory, &bytes(1, 10)).await;
    memory.collect(SystemTime::now() + Duration::from_secs(1)).await.expect("it can be collected");
    assert!(memory.is_empty());
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_what_is_not_its_own_and_mends_what_was_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Directory::new(dir.path());
    let data = bytes(3, 5_000);
    let error = store.put(&Reference::to(&data), data.clone()).await.expect_err("it may not be mounted");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    let error = store.get(&Reference::to(&data)).await.expect_err("it may not be mounted");
    assert!(matches!(error, StoreError::Unavailable { .. }), "not that it is missing: {error}");
    store.create().expect("it can be created");
    let reference = put(&store, &data).await;
    let file = files(dir.path()).into_iter().find(|path| path.ends_with(reference.name())).expect("a blob");
    std::fs::write(&file, bytes(4, 5_000)).expect("it can be damaged");
    put(&store, &data).await;
    assert_eq!(store.get(&reference).await, Ok(data));
    let foreign = dir.path().join("README");
    let beside = file.with_file_name("notes");
    for path in [&foreign, &beside] {
        std::fs::write(path, "ours").expect("it can be written");
    }
    let later = SystemTime::now() + Duration::from_secs(10);
    let collected = store.collect(later).await.expect("it can be collected");
    assert_eq!((collected.blobs, collected.bytes), (1, 5_000));
    assert!(foreign.exists() && beside.exists() && !file.exists());
    assert_eq!(store.delete(&reference).await, Ok(false));
}

fn id() -> WorkflowId {
    WorkflowId::new("order-42").expect("an id")
}

fn payload(count: usize) -> Payload {
    Payload::encode(&"x".repeat(count)).expect("it can be encoded")
}

fn memory(above: usize, up_to: usize) -> (Memory, Stores) {
    let memory = Memory::new();
    (memory.clone(), Stores::new(vec![("memory".to_owned(), Arc::new(memory))], above, up_to))
}

#[tokio::test]
async fn only_what_is_large_is_put_out_and_all_comes_back() {
    let (memory, stores) = memory(1_000, 50_000);
    let whole: Vec<Payload> = [10, 990, 5_000, 5_000].map(payload).into();
    let mut values = whole.clone();
    assert!(stores.has_large(&mut values));
    stores.put_out(&mut values).await.expect("it can be put");
    assert_eq!(memory.len(), 1, "two are the same");
    let named: Vec<bool> = values.iter().map(|value| value.store().is_some()).collect();
    assert_eq!(named, [false, false, true, true]);
    assert_eq!(values[2].encoding, "msgpack+blob:memory");
    let once = values.clone();
    stores.put_out(&mut values).await.expect("nothing is left to put");
    assert_eq!(values, once);
    stores.fetch(&mut values).await.expect("all is there");
    assert_eq!(values, whole);
}

#[tokio::test]
async fn the_value_of_a_failure_is_put_out_too() {
    let (memory, stores) = memory(1_000, 50_000);
    let mut failure = Failure::new(FailureKind::Failed, "no");
    failure.value = Some(payload(3_000));
    let whole = failure.clone();
    stores.put_out(&mut failure).await.expect("it can be put");
    assert_eq!((memory.len(), failure.value.as_ref().and_then(Payload::store)), (1, Some("memory")));
    stores.fetch_what_can_be(&mut failure).await;
    assert_eq!(failure, whole);
}

/// Says no so many times; and gives what is not what was put.
#[derive(Debug)]
struct Poor {
    refusals: AtomicU32,
    gives: Result<Bytes, StoreError>,
}

impl Poor {
    fn say<T>(&self, done: T) -> Result<T, StoreError> {
        let left = self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map_or(Ok(done), |_| Err(StoreError::unavailable("the cable is cut")))
    }
}

impl BlobStore for Poor {
    fn put<'a>(&'a self, _: &'a Reference, _: Bytes) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        Box::pin(async { self.say(None) })
    }
    fn get<'a>(&'a self, _: &'a Reference) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async { self.say(()).and_then(|()| self.gives.clone()) })
    }
    fn delete<'a>(&'a self, _: &'a Reference) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { Ok(false) })
    }
    fn collect(&self, _: SystemTime) -> BoxFuture<'_, Result<Collected, StoreError>> {
        Box::pin(async { Ok(Collected::default()) })
    }
}

fn poor(refusals: u32, gives: Result<Bytes, StoreError>) -> Stores {
    let store = Poor { refusals: AtomicU32::new(refusals), gives };
    Stores::new(vec![("poor".to_owned(), Arc::new(store))], 1_000, 50_000)
}

/// What stands for a value that another process put.
async fn named() -> Payload {
    let mut value = payload(2_000);
    poor(0, Err(StoreError::Missing)).put_out(&mut value).await.expect("it can be put");
    value
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_asked_again_and_nothing_has_changed_when_it_stays_away() {
    let mut value = payload(2_000);
    poor(2, Err(StoreError::Missing)).put_out(&mut value).await.expect("the third time");
    assert_eq!(value.store(), Some("poor"));
    let mut value = payload(2_000);
    let error = poor(100, Err(StoreError::Missing)).put_out(&mut value).await.expect_err("never");
    assert!(error.is_missing() && error.to_string().contains("the store `poor`: the cable is cut"), "{error}");
    assert_eq!(value, payload(2_000));
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_missing_or_was_changed_is_named_and_never_taken() {
    let name = Reference::to(&payload(2_000).data).name();
    let mut value = named().await;
    let error = poor(0, Err(StoreError::Missing)).fetch(&mut value).await.expect_err("it is gone");
    assert!(error.is_missing() && error.to_string().contains(&name), "{error}");
    let error = poor(0, Ok(payload(1_999).data)).fetch(&mut value).await.expect_err("it is another");
    let CodingError::Broken { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains(&name) && reason.contains("not those that were put"), "{reason}");
    let (_, others) = memory(10, 100);
    let error = others.fetch(&mut value).await.expect_err("it has no such store");
    assert!(error.to_string().contains("the store `poor`, which this process does not have"), "{error}");
    assert_eq!(value, named().await, "nothing has changed");
}

#[test]
fn a_run_without_a_runtime_puts_and_gets_what_is_at_hand() {
    let (memory, stores) = memory(1_000, 50_000);
    let coding = Coding::default().with_blobs(Arc::new(stores));
    let mut value = payload(2_000);
    coding.put_away(&id(), &mut value, None).expect("it can be put");
    assert_eq!((memory.len(), value.store()), (1, Some("memory")));
    coding.open(&id(), &mut value).expect("it is there");
    assert_eq!(value, payload(2_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_polls_runs_waits_for_the_store_and_a_task_never_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let transport = broker(&dir.path().join("broker")).await;
    let blobs = Blobs::on_broker("documents").above(1_000);
    let writer = Coding::default().with_blobs(Arc::new(blobs.open(&transport)));
    let reader = Coding::default().with_blobs(Arc::new(blobs.open(&transport)));
    let thread = std::thread::spawn(move || {
        let mut value = payload(2_000);
        writer.put_away(&id(), &mut value, None).expect("it can be put");
        let named = value.clone();
        reader.open(&id(), &mut value).expect("it can be fetched");
        (named, value)
    });
    let joined = tokio::task::spawn_blocking(move || thread.join()).await.expect("no panic");
    let (mut named, value) = joined.expect("no panic");
    assert_eq!((named.store(), value), (Some("documents"), payload(2_000)));
    let fresh = Coding::default().with_blobs(Arc::new(blobs.open(&transport)));
    let error = fresh.open(&id(), &mut named).expect_err("a task does not wait");
    assert!(error.is_missing() && error.to_string().contains("nobody has fetched it"), "{error}");
}

/// Answers when it is let to, and counts what it is asked.
#[derive(Debug, Default)]
struct Slow {
    memory: Memory,
    asked: AtomicU32,
    /// Of these bytes it is slow.
    slow: Option<u8>,
    gate: Arc<(Mutex<bool>, tokio::sync::Notify)>,
}

impl Slow {
    fn of(slow: Option<u8>) -> Arc<Self> {
        Arc::new(Self { slow, ..Self::default() })
    }

    fn open(&self) {
        *self.gate.0.lock().expect("unpoisoned") = true;
        self.gate.1.notify_waiters();
    }

    async fn pass(&self, first: Option<u8>) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.slow.is_some() && self.slow != first {
            return;
        }
        let opened = self.gate.1.notified();
        if !*self.gate.0.lock().expect("unpoisoned") {
            opened.await;
        }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// What a test keeps for itself of a store that it gives away.
#[derive(Debug)]
struct Given(Arc<Slow>);

impl BlobStore for Given {
    fn put<'a>(&'a self, blob: &'a Reference, data: Bytes) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        Box::pin(async {
            self.0.pass(data.first().copied()).await;
            self.0.memory.put(blob, data).await
        })
    }
    fn get<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async {
            let data = self.0.memory.get(blob).await?;
            self.0.pass(data.first().copied()).await;
            Ok(data)
        })
    }
    fn delete<'a>(&'a self, _: &'a Reference) -> BoxFuture<'a, Result<bool, StoreError>> {
        panic!("nobody deletes here")
    }
    fn collect(&self, _: SystemTime) -> BoxFuture<'_, Result<Collected, StoreError>> {
        panic!("nobody collects here")
    }
}

fn with_wait(store: &Arc<Slow>, wait: Duration) -> Coding {
    let stores = vec![("slow".to_owned(), Arc::new(Given(Arc::clone(store))) as Arc<dyn BlobStore>)];
    Coding::new(Format::default(), vec![Arc::new(Nonce::default())], Vec::new())
        .with_blobs(Arc::new(Stores::with_wait(stores, 1_000, 50_000, wait)))
}

/// As an encryption does it: the same comes to other bytes each time.
#[derive(Debug, Default)]
struct Nonce(AtomicU32);

impl Layer for Nonce {
    fn name(&self) -> &'static str {
        "nonce"
    }
    fn wrap(&self, data: Bytes, _: Place<'_>) -> Result<Wrapped, LayerError> {
        let nonce = self.0.fetch_add(1, Ordering::SeqCst) as u8;
        Ok(Wrapped::Changed { label: None, data: [&[nonce][..], &data].concat().into() })
    }
    fn unwrap(&self, data: Bytes, _: Option<&str>, _: Place<'_>) -> Result<Bytes, LayerError> {
        Ok(data.slice(1..))
    }
}

fn sealed(coding: &Coding, count: usize) -> Payload {
    let mut value = payload(count);
    coding.seal(&id(), &mut value).expect("it can be sealed");
    value
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // A thread that is not the runtime's.
    let thread = std::thread::spawn(work);
    tokio::task::spawn_blocking(move || thread.join().expect("no panic")).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_takes_long_to_put_is_put_once_however_often_it_is_tried_and_sealed_anew() {
    let store = Slow::of(None);
    let coding = with_wait(&store, Duration::from_millis(50));
    let again = Some([7; 32]);
    let (mut first, mut second, mut third) = (sealed(&coding, 2_000), sealed(&coding, 2_000), sealed(&coding, 2_000));
    assert_ne!(first, second, "it is sealed anew");
    let trying = coding.clone();
    on_a_thread(move || {
        for value in [&mut first, &mut second] {
            let error = trying.put_away(&id(), value, again).expect_err("it is not there yet");
            assert!(error.is_missing() && error.to_string().contains("has not answered yet"), "{error}");
        }
    })
    .await;
    store.open();
    let third = on_a_thread(move || {
        while let Err(error) = coding.put_away(&id(), &mut third, again) {
            assert!(error.is_missing(), "{error}");
        }
        let named = third.clone();
        coding.open(&id(), &mut third).expect("it can be opened");
        (named, third)
    })
    .await;
    assert_eq!((third.0.store(), third.1), (Some("slow"), payload(2_000)));
    assert_eq!((store.asked(), store.memory.len()), (1, 1), "it was put once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_slow_to_come_keeps_nobody_else_waiting_and_is_not_asked_for_again() {
    let store = Slow::of(Some(0));
    let coding = with_wait(&store, Duration::from_millis(200));
    let writer = Stores::new(vec![("slow".to_owned(), Arc::new(store.memory.clone()))], 1_000, 50_000);
    let (mut slow, mut fast) = (sealed(&coding, 2_000), sealed(&coding, 3_000));
    for value in [&mut slow, &mut fast] {
        writer.put_out(value).await.expect("it can be put");
    }
    let asking = coding.clone();
    let mut value = slow.clone();
    on_a_thread(move || {
        for _ in 0..3 {
            let error = asking.open(&id(), &mut value).expect_err("it is not there yet");
            assert!(error.is_missing(), "{error}");
        }
        let other = WorkflowId::new("order-43").expect("an id");
        asking.open(&other, &mut fast).expect("others get theirs");
        assert_eq!(fast, payload(3_000));
    })
    .await;
    assert_eq!(store.asked(), 2, "once for each");
    store.open();
    on_a_thread(move || while coding.open(&id(), &mut slow).is_err() {}).await;
    assert_eq!(store.asked(), 2, "what came meanwhile was kept");
}

#[tokio::test(start_paused = true)]
async fn what_was_worked_for_is_put_however_long_the_store_is_away_unless_it_is_refused() {
    let mut value = payload(2_000);
    // Far more often than whoever gives up asks.
    poor(40, Err(StoreError::Missing)).put_out_patiently(&mut value).await.expect("at last");
    assert_eq!(value.store(), Some("poor"));
    let mut large = payload(60_000);
    for tried in [
        poor(0, Err(StoreError::Missing)).put_out_patiently(&mut large).await,
        poor(0, Err(StoreError::Missing)).put_out(&mut large).await,
    ] {
        let Err(CodingError::Refused { reason, .. }) = tried else { panic!("{tried:?}") };
        assert!(reason.contains("60003 bytes, and blobs take up to 50000"), "{reason}");
    }
    assert_eq!(large, payload(60_000));
}

/// Others' code.
#[derive(Debug)]
struct Panics;

impl BlobStore for Panics {
    fn put<'a>(&'a self, _: &'a Reference, _: Bytes) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        panic!("no disk {}", 7)
    }
    fn get<'a>(&'a self, _: &'a Reference) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async { panic!("no disk") })
    }
    fn delete<'a>(&'a self, _: &'a Reference) -> BoxFuture<'a, Result<bool, StoreError>> {
        panic!("no disk")
    }
    fn collect(&self, _: SystemTime) -> BoxFuture<'_, Result<Collected, StoreError>> {
        panic!("no disk")
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_one_that_is_away() {
    let stores = Stores::new(vec![("poor".to_owned(), Arc::new(Panics))], 1_000, 50_000);
    let mut value = payload(2_000);
    let error = stores.put_out(&mut value).await.expect_err("it panics");
    assert!(error.is_missing() && error.to_string().contains("it panicked: no disk 7"), "{error}");
    let error = stores.fetch(&mut named().await).await.expect_err("it panics");
    assert!(error.is_missing() && error.to_string().contains("it panicked: no disk"), "{error}");
    assert!(stores.collect(SystemTime::now()).await.is_err());
}

#[tokio::test]
async fn what_a_reference_says_is_held_against_what_may_be_fetched_and_a_later_one_is_left_to_others() {
    let (_, writer) = memory(1_000, 50_000);
    let mut value = payload(5_000);
    writer.put_out(&mut value).await.expect("it can be put");
    let (_, reader) = memory(1_000, 4_000);
    let error = reader.fetch(&mut value.clone()).await.expect_err("it is too large");
    assert!(error.is_missing() && error.to_string().contains("blobs take up to 4000 here"), "{error}");
    let mut bytes = value.data.to_vec();
    bytes[0] += 1;
    value.data = bytes.into();
    let error = writer.fetch(&mut value).await.expect_err("it is of a later release");
    assert!(error.is_missing() && error.to_string().contains("later format version"), "{error}");
}
