//! Tenants, namespaces with their policies, and which topics are partitioned.

use std::collections::{BTreeMap, BTreeSet};

use super::ConnectionId;
use super::broker::Broker;
use super::change::Change;
use super::effect::{Effect, Refusal, RefusalKind};
use super::name::{self, TopicName};
use super::policies::{AutoTopicCreation, Policies, TopicKind};
use super::schema::SchemaVersion;
use super::subscription::Subscription;

#[derive(Debug, Default)]
pub struct Catalog {
    pub tenants: BTreeSet<String>,
    /// Who the user says administers a tenant. They are kept and shown; the broker's token is above them all.
    pub tenant_roles: BTreeMap<String, BTreeSet<String>>,
    pub namespaces: BTreeMap<String, Policies>,
    /// What a topic has of its own, by its name without the number of a partition.
    pub topic_policies: BTreeMap<String, Policies>,
    /// Full name of the partitioned topic, and how many partitions it has.
    pub partitioned: BTreeMap<String, u32>,
    /// What the user notes about partitioned topics.
    pub partitioned_properties: BTreeMap<String, BTreeMap<String, String>>,
    /// By `tenant/namespace/topic`.
    pub schemas: BTreeMap<String, Vec<SchemaVersion>>,
}

impl Catalog {
    pub fn namespace(&self, namespace: &str) -> Result<&Policies, Refusal> {
        self.namespaces.get(namespace).ok_or_else(|| {
            Refusal::new(
                RefusalKind::NamespaceNotFound,
                format!("Namespace {namespace} does not exist: create it first"),
            )
        })
    }
}

impl Catalog {
    /// What a topic obeys: its own policy, else that of its namespace.
    pub fn policy<T>(&self, topic: &TopicName, field: impl Fn(&Policies) -> Option<T>) -> Option<T> {
        let own = if self.topic_policies.is_empty() { None } else { self.topic_policies.get(topic.base()) };
        own.and_then(&field).or_else(|| self.namespaces.get(topic.namespace()).and_then(&field))
    }
}

/// Partitions beyond this are a mistake on one machine.
const PARTITIONS_MAX: u32 = 4096;

impl Broker {
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// # Errors
    /// It exists, or its name is none.
    pub fn handle_create_tenant(&mut self, tenant: &str) -> Result<(), Refusal> {
        if !name::is_part(tenant) {
            return Err(Refusal::new(
                RefusalKind::InvalidName,
                format!("`{}` is no tenant name", tenant.escape_debug()),
            ));
        }
        if !self.catalog.tenants.insert(tenant.to_owned()) {
            return Err(Refusal::new(RefusalKind::AlreadyExists, format!("Tenant {tenant} exists already")));
        }
        self.log(Change::Tenant { tenant: tenant.to_owned() });
        Ok(())
    }

    /// # Errors
    /// No such tenant.
    pub fn handle_set_tenant_roles(&mut self, tenant: &str, roles: BTreeSet<String>) -> Result<(), Refusal> {
        if !self.catalog.tenants.contains(tenant) {
            return Err(Refusal::new(RefusalKind::TenantNotFound, format!("Tenant {tenant} not found")));
        }
        if self.catalog.tenant_roles.get(tenant).cloned().unwrap_or_default() != roles {
            self.catalog.tenant_roles.insert(tenant.to_owned(), roles.clone());
            self.log(Change::TenantRoles { tenant: tenant.to_owned(), roles });
        }
        Ok(())
    }

    /// # Errors
    /// It does not exist or has namespaces.
    pub fn handle_delete_tenant(&mut self, tenant: &str) -> Result<(), Refusal> {
        let prefix = format!("{tenant}/");
        if self.catalog.namespaces.keys().any(|namespace| namespace.starts_with(&prefix)) {
            return Err(Refusal::new(RefusalKind::Busy, format!("Tenant {tenant} still has namespaces")));
        }
        if !self.catalog.tenants.remove(tenant) {
            return Err(Refusal::new(RefusalKind::TenantNotFound, format!("Tenant {tenant} does not exist")));
        }
        self.catalog.tenant_roles.remove(tenant);
        self.log(Change::TenantDeleted { tenant: tenant.to_owned() });
        Ok(())
    }

    /// # Errors
    /// It exists, its name is none, or its tenant does not exist.
    pub fn handle_create_namespace(&mut self, namespace: &str, policies: Policies) -> Result<(), Refusal> {
        let Some((tenant, local)) = namespace.split_once('/').filter(|(_, local)| name::is_part(local)) else {
            return Err(Refusal::new(
                RefusalKind::InvalidName,
                format!("`{}` is no namespace name", namespace.escape_debug()),
            ));
        };
        if !self.catalog.tenants.contains(tenant) {
            return Err(Refusal::new(
                RefusalKind::TenantNotFound,
                format!("Tenant {tenant} does not exist: create it before its namespace {local}"),
            ));
        }
        if self.catalog.namespaces.contains_key(namespace) {
            return Err(Refusal::new(RefusalKind::AlreadyExists, format!("Namespace {namespace} exists already")));
        }
        self.catalog.namespaces.insert(namespace.to_owned(), policies.clone());
        self.log(Change::Namespace { namespace: namespace.to_owned(), policies: Box::new(policies) });
        Ok(())
    }

    /// # Errors
    /// It does not exist, or has topics and `force` was not asked for.
    pub fn handle_delete_namespace(&mut self, namespace: &str, force: bool) -> Result<(), Refusal> {
        self.catalog.namespace(namespace)?;
        let topics = self.topics_of(namespace);
        if !topics.is_empty() && !force {
            return Err(Refusal::new(RefusalKind::Busy, format!("Namespace {namespace} still has topics")));
        }
        for topic in topics {
            self.handle_delete_topic(&topic, true)?;
        }
        let partitioned = self.partitioned_of(namespace);
        for topic in partitioned {
            self.catalog.partitioned.remove(topic.as_str());
            self.catalog.partitioned_properties.remove(topic.as_str());
            self.forget_topic_policies(&topic);
            self.log(Change::PartitionedDeleted { topic: topic.to_string() });
        }
        self.catalog.namespaces.remove(namespace);
        self.log(Change::NamespaceDeleted { namespace: namespace.to_owned() });
        Ok(())
    }

    /// # Errors
    /// The namespace does not exist.
    pub fn handle_set_policies(&mut self, namespace: &str, edit: impl FnOnce(&mut Policies)) -> Result<(), Refusal> {
        self.catalog.namespace(namespace)?;
        let policies = self.catalog.namespaces.entry(namespace.to_owned()).or_default();
        let before = policies.clone();
        edit(policies);
        if *policies != before {
            let policies = Box::new(policies.clone());
            self.log(Change::Namespace { namespace: namespace.to_owned(), policies });
        }
        Ok(())
    }

    /// Changes what a topic, or a partitioned one, has of its own.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn handle_set_topic_policies(
        &mut self,
        topic: &TopicName,
        edit: impl FnOnce(&mut Policies),
    ) -> Result<(), Refusal> {
        if !self.has_topic(topic) && !self.catalog.partitioned.contains_key(topic.base()) {
            return Err(Refusal::new(RefusalKind::TopicNotFound, format!("Topic {topic} not found")));
        }
        let before = self.catalog.topic_policies.get(topic.base()).cloned().unwrap_or_default();
        let mut policies = before.clone();
        edit(&mut policies);
        if policies != before {
            self.store_topic_policies(topic.base().to_owned(), policies);
        }
        Ok(())
    }

    /// A deleted topic's namesake begins without policies.
    pub(super) fn forget_topic_policies(&mut self, topic: &TopicName) {
        if self.catalog.topic_policies.contains_key(topic.as_str()) {
            self.store_topic_policies(topic.to_string(), Policies::default());
        }
    }

    fn store_topic_policies(&mut self, topic: String, policies: Policies) {
        let kept = (policies != Policies::default()).then(|| Box::new(policies));
        match &kept {
            Some(policies) => self.catalog.topic_policies.insert(topic.clone(), Policies::clone(policies)),
            None => self.catalog.topic_policies.remove(&topic),
        };
        self.log(Change::TopicPolicies { topic, policies: kept });
    }

    /// Creates a partitioned topic with all its partitions, or adds partitions to one.
    ///
    /// # Errors
    /// It exists (when created), does not exist or would shrink (when updated).
    pub fn handle_set_partitions(&mut self, topic: &TopicName, partitions: u32, update: bool) -> Result<(), Refusal> {
        self.catalog.namespace(topic.namespace())?;
        if partitions == 0 || partitions > PARTITIONS_MAX {
            return Err(Refusal::new(
                RefusalKind::NotAllowed,
                format!("The number of partitions must be from 1 to {PARTITIONS_MAX}"),
            ));
        }
        if topic.partition().is_some() {
            return Err(Refusal::new(RefusalKind::InvalidName, format!("{topic} has the name of a partition")));
        }
        let existing = self.catalog.partitioned.get(topic.as_str()).copied();
        match (update, existing) {
            (false, Some(_)) => {
                return Err(Refusal::new(RefusalKind::AlreadyExists, "This topic already exists"));
            }
            (false, None) if self.topic_id(topic).is_some() => {
                return Err(Refusal::new(RefusalKind::AlreadyExists, "This topic already exists"));
            }
            (true, None) => {
                return Err(Refusal::new(RefusalKind::TopicNotFound, format!("{topic} is no partitioned topic")));
            }
            (true, Some(count)) if partitions < count => {
                return Err(Refusal::new(
                    RefusalKind::NotAllowed,
                    format!("{topic} has {count} partitions already; partitions cannot be taken away"),
                ));
            }
            _ => {}
        }
        let missing = self.missing_partitions(topic, partitions);
        self.check_new_topics(topic, missing.len())?;
        self.catalog.partitioned.insert(topic.as_str().to_owned(), partitions);
        self.log(Change::Partitioned { topic: topic.to_string(), partitions });
        self.create_partitions(topic, missing);
        Ok(())
    }

    /// The partitions that are not there: never made, or deleted singly.
    fn missing_partitions(&self, topic: &TopicName, count: u32) -> Vec<TopicName> {
        let partitions = self.partition_names(topic, count).into_iter();
        partitions.filter(|partition| self.topic_id(partition).is_none()).collect()
    }

    /// Makes the partitions that are not there, with the durable subscriptions of the first one.
    fn create_partitions(&mut self, topic: &TopicName, missing: Vec<TopicName>) {
        let first = self.partition_names(topic, 1).first().and_then(|first| self.topic(first).ok());
        let subscriptions = first.map(|first| first.subscriptions.values());
        let subscriptions: Vec<_> = subscriptions
            .into_iter()
            .flatten()
            .filter(|subscription| subscription.durable)
            .map(|subscription| (subscription.name.clone(), subscription.kind, subscription.properties.clone()))
            .collect();
        for partition in missing {
            let id = self.create_topic(&partition);
            for (name, kind, properties) in &subscriptions {
                let Some(state) = self.topics.get_mut(&id).filter(|state| state.name.is_persistent()) else { break };
                let mut subscription = Subscription::new(name, *kind, true, 0);
                subscription.properties = properties.clone();
                state.add_subscription(subscription);
                self.log_subscription(id, name);
            }
        }
    }

    /// Makes partitions again that were deleted singly.
    ///
    /// # Errors
    /// No such partitioned topic, or no room for them.
    pub fn handle_create_missed_partitions(&mut self, topic: &TopicName) -> Result<(), Refusal> {
        let Some(count) = self.catalog.partitioned.get(topic.as_str()).copied() else {
            return Err(Refusal::new(RefusalKind::TopicNotFound, format!("Partitioned topic {topic} not found")));
        };
        let missing = self.missing_partitions(topic, count);
        self.check_new_topics(topic, missing.len())?;
        self.create_partitions(topic, missing);
        Ok(())
    }

    /// A client asks how many partitions a topic has, and may want it made if it is not there.
    pub fn handle_partitioned_metadata(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        topic: &str,
        creates: bool,
    ) {
        let outcome = self.partitioned_metadata(topic, creates);
        self.answer(Effect::Partitions { connection, request_id, outcome });
    }

    /// How many partitions a topic has, for a client that may want it made.
    ///
    /// # Errors
    /// There is no such topic, and it is not to be made.
    pub fn partitioned_metadata(&mut self, topic: &str, creates: bool) -> Result<u32, Refusal> {
        let name = self.resolve(topic)?;
        let count = self.partitions(&name)?;
        if count > 0 || self.topic_id(&name).is_some() {
            return Ok(count);
        }
        let creation = self.auto_creation(&name);
        if !creates || !creation.allow {
            return Err(Refusal::new(RefusalKind::TopicNotFound, format!("Topic {name} not found")));
        }
        if creation.kind != Some(TopicKind::Partitioned) || name.partition().is_some() {
            // It is made when it is used.
            return Ok(0);
        }
        self.check_storage()?;
        let count = creation.partitions.unwrap_or(1);
        self.handle_set_partitions(&name, count, false).map(|()| count)
    }

    /// What the topic's namespace says about topics that clients name and that are not there.
    pub(super) fn auto_creation(&self, topic: &TopicName) -> AutoTopicCreation {
        let policies = self.catalog.namespaces.get(topic.namespace());
        policies.and_then(|policies| policies.auto_topic_creation).unwrap_or_default()
    }

    /// Deletes a partitioned topic with its partitions.
    ///
    /// # Errors
    /// It does not exist, or has clients and `force` was not asked for.
    pub fn handle_delete_partitioned(&mut self, topic: &TopicName, force: bool) -> Result<(), Refusal> {
        let Some(count) = self.catalog.partitioned.get(topic.as_str()).copied() else {
            return Err(Refusal::new(RefusalKind::TopicNotFound, format!("Partitioned topic {topic} not found")));
        };
        let partitions = self.partition_names(topic, count);
        for partition in &partitions {
            self.check_deletable(partition, force)?;
        }
        for partition in partitions {
            if self.topic_id(&partition).is_some() {
                self.handle_delete_topic(&partition, true)?;
            }
        }
        self.catalog.partitioned.remove(topic.as_str());
        self.catalog.partitioned_properties.remove(topic.as_str());
        self.forget_topic_policies(topic);
        self.log(Change::PartitionedDeleted { topic: topic.to_string() });
        self.forget_schemas(topic);
        Ok(())
    }

    /// How many partitions a topic has; zero if it is not partitioned.
    ///
    /// # Errors
    /// Its namespace does not exist.
    pub fn partitions(&self, topic: &TopicName) -> Result<u32, Refusal> {
        self.catalog.namespace(topic.namespace())?;
        Ok(self.catalog.partitioned.get(topic.as_str()).copied().unwrap_or(0))
    }

    pub fn partition_names(&self, topic: &TopicName, count: u32) -> Vec<TopicName> {
        (0..count).filter_map(|index| TopicName::parse(&format!("{topic}-partition-{index}")).ok()).collect()
    }

    /// All partitioned topics of a namespace.
    pub fn partitioned_of(&self, namespace: &str) -> Vec<TopicName> {
        let names = self.catalog.partitioned.keys().filter_map(|name| TopicName::parse(name).ok());
        names.filter(|name| name.namespace() == namespace).collect()
    }
}
