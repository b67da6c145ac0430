//! All that a worker can run, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everpulse_protocol::Coding;
use everpulse_protocol::schema::Kind;

use crate::intercept::{Interceptor, Interceptors};

use super::{
    Activities, ActivityEntry, ActivityFn, FunctionActivity, SourceLocation, WorkflowDefinition, WorkflowEntry,
    WorkflowFn,
};
use crate::query::Query;
use crate::schema::Schemas;
use crate::signal::Signal;
use crate::update::Update;

/// Two definitions claim one name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is defined twice, at {first} and at {second}; give one of them another {remedy}")]
pub struct Duplicate {
    /// Kind, name and version.
    pub what: String,
    pub first: SourceLocation,
    pub second: SourceLocation,
    remedy: &'static str,
}

/// Workflows by name and version, activities by name.
///
/// Registering one definition again changes nothing; another one of the same name is an error.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    workflows: BTreeMap<&'static str, BTreeMap<u32, WorkflowEntry>>,
    activities: BTreeMap<String, ActivityEntry>,
    /// Signals, queries and updates that the workflows take, by kind and name.
    messages: BTreeMap<(Kind, &'static str), fn() -> Schemas>,
    coding: Coding,
    interceptors: Interceptors,
}

impl Registry {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that workflows here take a signal.
    pub fn signal<T: Signal>(&mut self) {
        self.messages.insert((Kind::Signal, T::NAME), T::schemas);
    }

    /// Says that workflows here answer a query.
    pub fn query<Q: Query>(&mut self) {
        self.messages.insert((Kind::Query, Q::NAME), Q::schemas);
    }

    /// Says that workflows here take an update.
    pub fn update<U: Update>(&mut self) {
        self.messages.insert((Kind::Update, U::NAME), U::schemas);
    }

    /// Signals, queries and updates that were said to be taken, with what their types say of themselves.
    pub fn messages(&self) -> impl Iterator<Item = (Kind, &'static str, Schemas)> {
        self.messages.iter().map(|((kind, name), schemas)| (*kind, *name, schemas()))
    }

    /// From now on the values of all of them are written so.
    pub fn set_coding(&mut self, coding: Coding) {
        self.coding = coding;
    }

    /// How their values are written.
    #[must_use]
    pub fn coding(&self) -> &Coding {
        &self.coding
    }

    /// Stands around attempts, inside of those that were added before, and looks on at runs.
    pub fn intercept(&mut self, interceptor: impl Interceptor) {
        self.interceptors.push(interceptor);
    }

    /// All that stands around attempts and looks on at runs.
    #[must_use]
    pub fn interceptors(&self) -> &Interceptors {
        &self.interceptors
    }

    /// Registers a function with `#[workflow]`.
    ///
    /// # Errors
    /// When another definition has its name and version.
    pub fn workflow_fn<Arguments, F: WorkflowFn<Arguments>>(&mut self, _: F) -> Result<(), Duplicate> {
        self.add_workflow(<F::Definition as WorkflowDefinition>::entry())
    }

    /// Registers a function with `#[activity]`.
    ///
    /// # Errors
    /// When another definition has its name.
    pub fn activity_fn<Arguments, F>(&mut self, _: F) -> Result<(), Duplicate>
    where
        F: ActivityFn<Arguments>,
        F::Definition: FunctionActivity,
    {
        self.add_activity(<F::Definition as FunctionActivity>::entry())
    }

    /// Registers every `#[activity]` method of a value with an `#[activities] impl`.
    ///
    /// # Errors
    /// When another definition has the name of one of them.
    pub fn activities_of<T: Activities>(&mut self, value: T) -> Result<(), Duplicate> {
        Arc::new(value).entries().into_iter().try_for_each(|entry| self.add_activity(entry))
    }

    /// Registers the code of a workflow.
    ///
    /// # Errors
    /// When another definition has its name and version.
    pub fn add_workflow(&mut self, entry: WorkflowEntry) -> Result<(), Duplicate> {
        let versions = self.workflows.entry(entry.name).or_default();
        if let Some(first) = versions.get(&entry.version) {
            if first.identity == entry.identity {
                return Ok(());
            }
            return Err(Duplicate {
                what: format!("version {} of workflow `{}`", entry.version, entry.name),
                first: first.location,
                second: entry.location,
                remedy: "version or name",
            });
        }
        versions.insert(entry.version, entry);
        Ok(())
    }

    /// Registers the code of an activity.
    ///
    /// # Errors
    /// When another definition has its name.
    pub fn add_activity(&mut self, entry: ActivityEntry) -> Result<(), Duplicate> {
        if let Some(first) = self.activities.get(&entry.name) {
            if first.identity == entry.identity {
                return Ok(());
            }
            return Err(Duplicate {
                what: format!("activity `{}`", entry.name),
                first: first.location,
                second: entry.location,
                remedy: "name with `name = \"..\"`",
            });
        }
        self.activities.insert(entry.name.clone(), entry);
        Ok(())
    }

    /// The code of a workflow; without a version the newest.
    #[must_use]
    pub fn workflow(&self, name: &str, version: Option<u32>) -> Option<&WorkflowEntry> {
        let versions = self.workflows.get(name)?;
        match version {
            Some(version) => versions.get(&version),
            None => versions.last_key_value().map(|(_, entry)| entry),
        }
    }

    /// Whether any version of the workflow is here.
    #[must_use]
    pub fn has_workflow_name(&self, name: &str) -> bool {
        self.workflows.contains_key(name)
    }

    /// The code of an activity.
    #[must_use]
    pub fn activity(&self, name: &str) -> Option<&ActivityEntry> {
        self.activities.get(name)
    }

    /// All workflows, by name and version.
    pub fn workflows(&self) -> impl Iterator<Item = &WorkflowEntry> {
        self.workflows.values().flat_map(BTreeMap::values)
    }

    /// All activities, by name.
    pub fn activities(&self) -> impl Iterator<Item = &ActivityEntry> {
        self.activities.values()
    }

    /// The queues that the activities name.
    #[must_use]
    pub fn activity_queues(&self) -> BTreeSet<String> {
        self.activities.values().map(|entry| entry.queue.to_owned()).collect()
    }
}
