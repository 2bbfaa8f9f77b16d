//! What a job runs after, and what it is called by those of the same request that run after it.

use std::collections::{HashMap, HashSet};

use offload_common::job::{After, AfterPolicy, JobId, MAX_PARENTS};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fields::Fields;
use crate::problem::FieldError;

/// Characters of a name that a job goes by within its request.
pub(crate) const MAX_REF_CHARS: usize = 64;

/// What such a name begins with where it stands for an id.
const REF: &str = "ref:";

/// A parent, as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Parent {
    Job(JobId),
    Named(String),
}

/// A job's place among others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Order {
    name: Option<String>,
    parents: Vec<Parent>,
    policy: AfterPolicy,
}

/// The jobs of a request that have a name, with their ids.
pub(crate) type Names = HashMap<String, JobId>;

impl Order {
    /// Reads `ref`, `after` and `after_policy`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let name = fields.text("ref").map(str::to_owned);
        if name.as_ref().is_some_and(|name| !(1..=MAX_REF_CHARS).contains(&name.chars().count())) {
            fields.error("ref", format!("must be a string of 1 to {MAX_REF_CHARS} characters"));
        }
        let texts = fields.texts("after", MAX_PARENTS, REF.len() + MAX_REF_CHARS);
        let policy = fields.parse("after_policy").unwrap_or_default();
        let (mut parents, mut seen) = (Vec::with_capacity(texts.len()), HashSet::new());
        for (n, text) in texts.iter().enumerate() {
            let parent = match text.strip_prefix(REF) {
                Some(name) => Ok(Parent::Named(name.to_owned())),
                None => text.parse().map(Parent::Job),
            };
            let detail = match parent {
                Ok(parent) if seen.insert(parent.clone()) => {
                    parents.push(parent);
                    continue;
                }
                Ok(_) => "is given more than once",
                Err(_) => "must be the id of a job, or `ref:` and the name of one before it in this request",
            };
            fields.errors.push(FieldError::at(format!("/after/{n}"), detail));
        }
        Self { name, parents, policy }
    }

    /// Whether it has anything to do with others.
    pub(crate) fn is_any(&self) -> bool {
        self.name.is_some() || !self.parents.is_empty()
    }

    /// What it is called.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// How many it runs after.
    pub(crate) fn parents(&self) -> usize {
        self.parents.len()
    }

    /// Those that were accepted earlier.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.parents.iter().filter_map(|parent| if let Parent::Job(job) = parent { Some(*job) } else { None })
    }

    /// What is wrong with it in a request, given which names stand for jobs before it, and which ids for none at all.
    pub(crate) fn check(&self, is_named: impl Fn(&str) -> bool, is_unknown: impl Fn(JobId) -> bool) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.name().is_some_and(&is_named) {
            errors.push(FieldError::at("/ref", "another job of this request goes by that name"));
        }
        for (n, parent) in self.parents.iter().enumerate() {
            let detail = match parent {
                Parent::Named(name) if !is_named(name) => {
                    "no job before it in this request goes by that name".to_owned()
                }
                Parent::Job(job) if is_unknown(*job) => unknown(*job),
                _ => continue,
            };
            errors.push(FieldError::at(format!("/after/{n}"), detail));
        }
        errors
    }

    /// What a job of this id runs after; its own name is for others from here on.
    pub(super) fn settle(self, id: JobId, names: &mut Names) -> Option<After> {
        let job = |parent: Parent| match parent {
            Parent::Job(job) => job,
            // All names have been checked; no job has this id, so the store would refuse it.
            Parent::Named(name) => names.get(&name).copied().unwrap_or(JobId(Uuid::nil())),
        };
        let jobs: Vec<JobId> = self.parents.into_iter().map(job).collect();
        if let Some(name) = self.name {
            names.insert(name, id);
        }
        (!jobs.is_empty()).then_some(After { jobs, policy: self.policy })
    }
}

/// What is wrong with the id of a job that there is none of.
pub(crate) fn unknown(job: JobId) -> String {
    format!("there is no job {job}")
}
