//! The kinds that intake accepts: those this process was given, and those that workers ever registered.
//!
//! What workers registered is read while the catalog is used, and at once when somebody names a kind that is not
//! known; an idle server reads nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use offload_common::kind::{KindCatalog, KindSpec};
use offload_common::store::{RegisteredKind, Store};
use offload_common::{callback, clock};
use std::sync::OnceLock;
use tokio::time::timeout;

/// How old the registrations may be.
const FRESH_FOR: Duration = Duration::from_secs(5);

/// The least time between two readings, however many unknown kinds are named.
const PAUSE: Duration = Duration::from_secs(1);

/// What is known at one moment.
#[derive(Default)]
pub(crate) struct Known {
    /// The kinds with their compiled schemas.
    pub(crate) kinds: KindCatalog,
    specs: Vec<KindSpec>,
    live: BTreeSet<String>,
    /// The OpenAPI document of these kinds, written when it is first asked for.
    pub(crate) openapi: OnceLock<Bytes>,
}

impl Known {
    /// Whether a live worker offers the kind.
    pub(crate) fn is_live(&self, kind: &str) -> bool {
        self.live.contains(kind)
    }

    /// The kinds' names, for people.
    pub(crate) fn names(&self) -> String {
        self.kinds.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// The catalog, kept up to date.
pub(crate) struct Catalog {
    own: Vec<KindSpec>,
    store: Arc<dyn Store>,
    patience: Duration,
    current: Mutex<Current>,
    reading: tokio::sync::Mutex<()>,
}

struct Current {
    known: Arc<Known>,
    read_at: Option<Instant>,
}

impl Catalog {
    /// Begins with the kinds that this process was given.
    pub(crate) fn new(own: Vec<KindSpec>, store: Arc<dyn Store>, patience: Duration) -> Self {
        let known = Arc::new(compile(merge(&own, &[]), BTreeSet::new()));
        let current = Mutex::new(Current { known, read_at: None });
        Self { own, store, patience, current, reading: tokio::sync::Mutex::default() }
    }

    /// What is known, reading anew if the last reading is too old. Where the store does not answer, the last one holds.
    pub(crate) async fn known(&self) -> Arc<Known> {
        self.known_within(FRESH_FOR).await
    }

    /// What is known, reading anew if `kind` is not.
    pub(crate) async fn knowing(&self, kind: &str) -> Arc<Known> {
        self.knowing_all(&[kind]).await
    }

    /// The same for several.
    pub(crate) async fn knowing_all(&self, kinds: &[&str]) -> Arc<Known> {
        let known = self.known().await;
        let all = kinds.iter().all(|kind| known.kinds.get(kind).is_some());
        if all { known } else { self.known_within(PAUSE).await }
    }

    async fn known_within(&self, age: Duration) -> Arc<Known> {
        if let Some(known) = self.fresh(age) {
            return known;
        }
        // One request reads; the others wait for what it finds, unless there is something to go on with.
        let _reading = self.reading.lock().await;
        if let Some(known) = self.fresh(age) {
            return known;
        }
        let registered = timeout(self.patience, self.store.kinds()).await;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.read_at = Some(clock::instant());
        match registered {
            Ok(Ok(registered)) => current.known = self.renewed(&current.known, &registered),
            Ok(Err(error)) => tracing::warn!(%error, "the registered kinds were not read"),
            Err(_) => tracing::warn!("the registered kinds were not read in time"),
        }
        current.known.clone()
    }

    fn fresh(&self, age: Duration) -> Option<Arc<Known>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = current.read_at.is_some_and(|at| at.elapsed() < age);
        fresh.then(|| current.known.clone())
    }

    /// The same catalog where nothing changed, since compiling schemas takes time.
    fn renewed(&self, known: &Arc<Known>, registered: &[RegisteredKind]) -> Arc<Known> {
        let live = registered.iter().filter(|kind| kind.live).map(|kind| kind.spec.name.clone()).collect();
        let specs = merge(&self.own, registered);
        match specs == known.specs {
            true if live == known.live => known.clone(),
            true => Arc::new(Known { kinds: known.kinds.clone(), specs, live, openapi: known.openapi.clone() }),
            false => Arc::new(compile(specs, live)),
        }
    }
}

/// All specs by name. What this process was given counts more than what a worker, maybe an older one, registered.
fn merge(own: &[KindSpec], registered: &[RegisteredKind]) -> Vec<KindSpec> {
    let all = registered.iter().map(|kind| &kind.spec).chain(own);
    // Offload's own are not for clients.
    let all = all.filter(|spec| spec.name != callback::KIND);
    all.map(|spec| (&spec.name, spec)).collect::<BTreeMap<_, _>>().into_values().cloned().collect()
}

/// Compiles the schemas. A kind whose schema is none is left out, so that it cannot take the others along.
fn compile(specs: Vec<KindSpec>, live: BTreeSet<String>) -> Known {
    let kinds = KindCatalog::new(specs.iter().cloned()).unwrap_or_else(|_| {
        let sound = specs.iter().filter(|spec| match KindCatalog::new([(*spec).clone()]) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%error, "this kind is not accepted");
                false
            }
        });
        KindCatalog::new(sound.cloned()).unwrap_or_default()
    });
    Known { kinds, specs, live, openapi: OnceLock::new() }
}
