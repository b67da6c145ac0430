//! One application's connection to its broker, from which publishers, consumers and readers are made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use everpulse_protocol::priority::Lane;
use everpulse_protocol::{Position, topic};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::access::Access;
use crate::address::{Address, Place};
use crate::admin::{self, Admin, Answer};
use crate::backoff::Backoff;
use crate::consumer::{self, Consumer, Subscription};
use crate::link::{Endpoint, Link, Role};
use crate::publisher::{Publisher, PublisherOptions};
use crate::reader::{Entry, Reader};
use crate::set_up::{Layout, SetUp, Site};
use crate::tail::{self, Tails};
use crate::tls::Tls;
use crate::{Error, ErrorKind};

/// How long reads and questions are tried.
const ANSWER: Duration = Duration::from_secs(30);

/// How to connect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How long the first connection is tried. 5 s.
    pub connect_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { connect_timeout: Duration::from_secs(5) }
    }
}

impl Options {
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }
}

/// A connection to the broker of an application. Clones share it.
///
/// Topics are named without tenant and namespace (`inbox`, or `history-partition-3` for one partition) or in full
/// (`non-persistent://public/everpulse/replies.c1`, see [`Transport::non_persistent`]).
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    address: Address,
    /// One to produce and one to consume, see `link.rs`.
    produce: Arc<Link>,
    consume: Arc<Link>,
    admin: Admin,
    tails: Tails,
    endpoints: Arc<watch::Sender<Endpoint>>,
    #[cfg(feature = "embedded")]
    embedded: Option<crate::embedded::Host>,
}

impl Transport {
    /// Connects, starting the embedded broker (or joining the one in the directory) if the address says so.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] after `connect_timeout`, [`ErrorKind::Unauthorized`], [`ErrorKind::Refused`], and
    /// [`ErrorKind::Broker`] when the embedded broker cannot start.
    pub async fn connect(address: &Address, options: Options) -> Result<Self, Error> {
        let (endpoint, tls) = match &address.place {
            Place::Pulsar { service_url, admin_url, tls } => {
                let admin_url = admin_url.clone().unwrap_or_else(|| admin::default_url(service_url));
                (Endpoint { service_url: service_url.clone(), admin_url }, tls.clone())
            }
            #[cfg(not(feature = "embedded"))]
            Place::Embedded { .. } => {
                let message =
                    format!("{address}: this program was built without the embedded broker (feature `embedded`)");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            #[cfg(feature = "embedded")]
            Place::Embedded { dir, relaxed } => {
                let (host, endpoints) = crate::embedded::Host::open(dir, *relaxed).await?;
                return Transport::over(address, options, endpoints, Tls::default(), Some(host)).await;
            }
        };
        let endpoints = Arc::new(watch::Sender::new(endpoint));
        #[cfg(feature = "embedded")]
        return Transport::over(address, options, endpoints, tls, None).await;
        #[cfg(not(feature = "embedded"))]
        return Transport::over(address, options, endpoints, tls).await;
    }

    async fn over(
        address: &Address,
        options: Options,
        endpoints: Arc<watch::Sender<Endpoint>>,
        tls: Tls,
        #[cfg(feature = "embedded")] embedded: Option<crate::embedded::Host>,
    ) -> Result<Self, Error> {
        let access = Access::new(address.token.clone(), tls);
        let produce = Link::new(Role::Produce, endpoints.clone(), access.clone());
        let consume = Link::new(Role::Consume, endpoints.clone(), access.clone());
        let transport = Transport {
            shared: Arc::new(Shared {
                address: address.clone(),
                admin: Admin::new(endpoints.clone(), access)?,
                tails: Tails::new(consume.clone()),
                produce,
                consume,
                endpoints,
                #[cfg(feature = "embedded")]
                embedded,
            }),
        };
        let until = Instant::now() + options.connect_timeout;
        for link in [&transport.shared.consume, &transport.shared.produce] {
            let mut backoff = Backoff::new();
            while let Err(error) = link.connected().await {
                if !error.is_passing() || Instant::now() >= until {
                    return Err(error);
                }
                sleep(backoff.next()).await;
            }
        }
        Ok(transport)
    }

    /// The address that it was connected to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// Where the broker's binary protocol is served just now.
    #[must_use]
    pub fn service_url(&self) -> String {
        self.shared.endpoints.borrow().service_url.clone()
    }

    /// Where the broker's admin API is served just now.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.shared.endpoints.borrow().admin_url.clone()
    }

    /// The full name of a topic.
    #[must_use]
    pub fn full_name(&self, topic: &str) -> String {
        if topic.contains("://") {
            return topic.to_owned();
        }
        format!("persistent://{}/{}/{topic}", self.shared.address.tenant(), self.shared.address.namespace())
    }

    /// The full name of a non-persistent topic: nothing is stored, and what nobody receives at once is lost.
    #[must_use]
    pub fn non_persistent(&self, topic: &str) -> String {
        format!("non-persistent://{}/{}/{topic}", self.shared.address.tenant(), self.shared.address.namespace())
    }

    /// Makes what is missing of an application's topics, subscriptions and policies, and checks what is there.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`], naming the policy or the count, when what is there contradicts;
    /// [`ErrorKind::Unauthorized`]; [`ErrorKind::Unreachable`] when the admin API is.
    pub async fn set_up(&self, wanted: &SetUp) -> Result<Layout, Error> {
        self.patiently(|| self.site_set_up(wanted)).await
    }

    async fn site_set_up(&self, wanted: &SetUp) -> Result<Layout, Error> {
        self.site().set_up(wanted).await
    }

    /// Makes what is missing of a queue's topics and subscriptions.
    ///
    /// # Errors
    /// As [`Transport::set_up`]; [`ErrorKind::Invalid`] for a name that cannot be one.
    pub async fn set_up_queue(&self, queue: &str) -> Result<(), Error> {
        if !topic::is_queue_name(queue) {
            let message = format!("the queue {queue:?}: a name has 1 to 64 letters, digits, - and _");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.patiently(|| async { self.site().set_up_queue(queue).await }).await
    }

    /// Makes what is missing of the topics and subscriptions of a lane; of that which is its queue, all of the queue's.
    ///
    /// # Errors
    /// As [`Transport::set_up_queue`].
    pub async fn set_up_lane(&self, lane: &Lane) -> Result<(), Error> {
        if lane.is_queue() {
            return self.set_up_queue(&lane.queue).await;
        }
        if !topic::is_queue_name(&lane.queue) {
            let message = format!("the lane {lane}: the name of its queue has 1 to 64 letters, digits, - and _");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.patiently(|| async { self.site().set_up_lane(lane).await }).await
    }

    /// Makes a topic of permits; [`topic::permits`] names it. Whether it was not there, and nobody else made it.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] when the admin API is.
    pub async fn set_up_permits(&self, topic: &str) -> Result<bool, Error> {
        self.patiently(|| async { self.site().set_up_permits(topic).await }).await
    }

    /// Makes the topic that says which lanes are in use, and what keeps it.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] when the admin API is.
    pub async fn set_up_lanes(&self) -> Result<(), Error> {
        self.patiently(|| async { self.site().set_up_lanes().await }).await
    }

    /// Makes the topic in which the broker keeps the blobs of a store, and what keeps them there.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the name is none for a topic; [`ErrorKind::Unreachable`].
    pub async fn set_up_blobs(&self, store: &str) -> Result<(), Error> {
        if !topic::is_queue_name(store) {
            let message = format!("the store {store:?}: a name has 1 to 64 letters, digits, - and _");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.patiently(|| async { self.site().set_up_blobs(store).await }).await
    }

    /// Makes the topic on which schemas are published, and what keeps them there.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] when the admin API is.
    pub async fn set_up_schemas(&self) -> Result<(), Error> {
        self.patiently(|| async { self.site().set_up_schemas().await }).await
    }

    /// What the application was set up with, asked without the admin API; none when it was not set up.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn layout(&self) -> Result<Option<Layout>, Error> {
        let until = Instant::now() + ANSWER;
        let link = &self.shared.consume;
        let shards = consumer::partitions(link, &self.full_name(topic::HISTORY), until).await?;
        let inbox = consumer::partitions(link, &self.full_name(topic::INBOX), until).await?;
        Ok((shards > 0 && inbox > 0).then(|| Layout::new(shards, inbox)))
    }

    /// A publisher to a topic or a partition. It is connected when the first message comes, and again whenever it
    /// has to be.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn publisher(&self, topic: &str, options: PublisherOptions) -> Publisher {
        Publisher::new(self.shared.produce.clone(), self.full_name(topic), options)
    }

    /// Subscribes to a topic, to all of its partitions if it has any.
    ///
    /// # Errors
    /// When it did not succeed once within the subscription's time-out; later it is built again without a word.
    pub async fn subscribe(&self, subscription: Subscription) -> Result<Consumer, Error> {
        let topic = self.full_name(&subscription.topic);
        consumer::subscribe(self.shared.consume.clone(), topic, subscription).await
    }

    /// A reader of a topic or a partition after a position, or from its earliest message.
    #[must_use]
    pub fn reader(&self, topic: &str, after: Option<Position>) -> Reader {
        Reader::new(self.shared.consume.clone(), self.full_name(topic), after)
    }

    /// The same, with so many messages on the way: where each is large, few are much.
    #[must_use]
    pub fn reader_with_queue(&self, topic: &str, after: Option<Position>, queue: u32) -> Reader {
        Reader::with_queue(self.shared.consume.clone(), self.full_name(topic), after, queue)
    }

    /// The position of the last message of a topic or a partition, asked after this call; none when it holds none.
    ///
    /// # Errors
    /// When the broker does not answer within half a minute.
    pub async fn last_position(&self, topic: &str) -> Result<Option<Position>, Error> {
        self.shared.tails.last(self.full_name(topic), ANSWER).await
    }

    /// The same, for whoever does not ask again: nothing is kept for the next question, which would receive the topic's
    /// messages meanwhile.
    ///
    /// # Errors
    /// As [`last_position`](Self::last_position).
    pub async fn last_position_once(&self, topic: &str) -> Result<Option<Position>, Error> {
        tail::once(self.shared.consume.clone(), self.full_name(topic), ANSWER).await
    }

    /// Everything after `after`, up to `to` or to the end as it is now, whichever comes first; possibly a little
    /// more. To read on and on, keep a [`Transport::reader`].
    ///
    /// # Errors
    /// When the broker does not answer within half a minute.
    pub async fn read(&self, topic: &str, after: Option<Position>, to: Option<Position>) -> Result<Vec<Entry>, Error> {
        let mut reader = self.reader(topic, after);
        let entries = reader.read_to(to, ANSWER).await;
        reader.close().await;
        entries
    }

    /// Moves a subscription's cursor forward up to and including a position, whatever it has not acknowledged. A cursor
    /// that is further on stays where it is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such topic or subscription; [`ErrorKind::Unreachable`] when the admin
    /// API is.
    pub async fn skip_to(&self, topic: &str, subscription: &str, upto: Position) -> Result<(), Error> {
        self.patiently(|| async {
            let path = self.site().path(topic, &format!("subscription/{subscription}/expireMessages"));
            let body = admin::at(topic, upto);
            self.shared.admin.post(&path, body).await?.or_refused(format!("moving {subscription} of {topic}")).map(drop)
        })
        .await
    }

    /// Makes a durable subscription that begins with the earliest message, where there is none of that name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such topic; [`ErrorKind::Unreachable`] when the admin API is.
    pub async fn ensure_subscription(&self, topic: &str, subscription: &str) -> Result<(), Error> {
        self.patiently(|| self.ensure_subscription_once(topic, subscription)).await
    }

    async fn ensure_subscription_once(&self, topic: &str, subscription: &str) -> Result<(), Error> {
        self.site().ensure_subscription(topic, subscription).await
    }

    /// Deletes a subscription, whatever it has not acknowledged. For tests.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such topic or subscription.
    pub async fn delete_subscription(&self, topic: &str, subscription: &str) -> Result<(), Error> {
        let path = self.site().path(topic, &format!("subscription/{subscription}?force=true"));
        self.shared.admin.delete(&path).await?.or_refused(format!("deleting {subscription} of {topic}")).map(drop)
    }

    /// Moves a topic or a partition to another ledger and cuts all who use it off, as a broker does when it
    /// balances its load. For tests.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such topic.
    pub async fn unload(&self, topic: &str) -> Result<(), Error> {
        let path = self.site().path(topic, "unload");
        self.shared.admin.put(&path, None).await?.or_refused(format!("unloading {topic}")).map(drop)
    }

    /// Deletes a topic, with all its partitions if it has any, and all that it holds. For tests.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), Error> {
        let site = self.site();
        if let Answer::Missing = self.shared.admin.delete(&site.path(topic, "partitions?force=true")).await? {
            self.shared.admin.delete(&site.path(topic, "?force=true").replace("/?", "?")).await?;
        }
        Ok(())
    }

    /// The broker's statistics of a topic or a partition, as it gives them.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such topic.
    pub async fn stats(&self, topic: &str) -> Result<serde_json::Value, Error> {
        let path = self.site().path(topic, "stats");
        self.shared.admin.get(&path).await?.or_refused(format!("the statistics of {topic}"))
    }

    /// Whether this process is the one that runs the embedded broker just now.
    #[must_use]
    pub fn holds_broker(&self) -> bool {
        #[cfg(feature = "embedded")]
        return self.shared.embedded.as_ref().is_some_and(crate::embedded::Host::is_holder);
        #[cfg(not(feature = "embedded"))]
        return false;
    }

    /// Ends the embedded broker, if this process runs it, so that another can take over at once. Everything else
    /// is closed by being dropped.
    pub async fn close(self) {
        #[cfg(feature = "embedded")]
        if let Some(host) = &self.shared.embedded {
            host.close().await;
        }
    }

    fn site(&self) -> Site<'_> {
        let address = &self.shared.address;
        Site { admin: &self.shared.admin, tenant: address.tenant(), namespace: address.namespace() }
    }

    /// Tries again while the broker starts, moves, or is overrun by others that set up at once.
    async fn patiently<T, F: Future<Output = Result<T, Error>>>(&self, attempt: impl Fn() -> F) -> Result<T, Error> {
        let until = Instant::now() + ANSWER;
        let mut backoff = Backoff::new();
        loop {
            match attempt().await {
                Err(error) if error.is_passing() && Instant::now() < until => sleep(backoff.next()).await,
                result => return result,
            }
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("address", &self.shared.address).finish_non_exhaustive()
    }
}
