//! Reading a request's jobs as they arrive: each is checked, and kept aside if it is good.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use futures_util::StreamExt;
use offload_common::store::IdempotencyKey;
use serde_json::Value;
use serde_json::value::RawValue;

use super::header::{Header, Scope};
use super::lines::{Lines, TooLong};
use super::order::{Held, Ordering};
use super::spool::Spool;
use super::{MAX_JOBS, MAX_UNIQUE};
use crate::app::App;
use crate::body::decoded;
use crate::catalog::Known;
use crate::idempotency::Pending;
use crate::json_body::{self, JsonBody};
use crate::problem::{FieldError, MAX_ERRORS, Problem, ProblemType};
use crate::request::RequestInfo;
use crate::request::TENANT;
use crate::submission::{Submission, kind_of};

/// The media types of a job a line.
const LINES: [&str; 4] = ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];

/// What a request brought.
pub(crate) struct Gathered {
    pub(crate) header: Header,
    pub(crate) spool: Spool,
    /// Jobs that are left out.
    pub(crate) refused: u64,
    /// What is wrong with them, as far as the first errors go.
    pub(crate) refusals: Vec<FieldError>,
    pub(crate) key: Option<IdempotencyKey>,
}

/// A request to read.
pub(crate) struct Source<'a> {
    pub(crate) app: &'a App,
    pub(crate) request: &'a RequestInfo,
    pub(crate) headers: &'a HeaderMap,
    /// The method, the path and what else tells requests with one key apart.
    pub(crate) route: &'a str,
    pub(crate) scope: Scope,
    /// Bad jobs are left out, where else they refuse the whole.
    pub(crate) partial: bool,
}

/// Reads a request. Where that is not to be left out, everything that is wrong is answered, as far as the first errors go.
pub(crate) async fn gather(source: Source<'_>, body: Body) -> Result<Gathered, Problem> {
    let key = Pending::read(source.headers, source.route)?;
    let known = source.app.catalog.known().await;
    let partial = source.partial;
    let mut gatherer = Gatherer {
        source,
        known,
        key,
        unique: 0,
        ordering: Ordering::default(),
        gathered: Gathered {
            header: Header::default(),
            spool: Spool::default(),
            refused: 0,
            refusals: Vec::new(),
            key: None,
        },
    };
    if is_lines(gatherer.source.headers) {
        gatherer.lines(body).await?;
    } else {
        gatherer.document(body).await?;
    }
    let Gatherer { gathered, key, .. } = gatherer;
    if gathered.refused > 0 && (!partial || gathered.spool.count() == 0) {
        return Err(Problem::validation(gathered.refusals).with("refused", gathered.refused));
    }
    Ok(Gathered { key: key.map(Pending::finish), ..gathered })
}

fn is_lines(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    LINES.contains(&essence.as_str())
}

struct Gatherer<'a> {
    source: Source<'a>,
    known: Arc<Known>,
    key: Option<Pending>,
    /// Jobs with unique keys so far.
    unique: u64,
    ordering: Ordering,
    gathered: Gathered,
}

impl Gatherer<'_> {
    /// One document: `{"defaults": …, "jobs": […]}`.
    async fn document(&mut self, body: Body) -> Result<(), Problem> {
        let body = json_body::read(self.source.headers, body, self.source.app.server.max_body_bytes).await?;
        if let Some(key) = &mut self.key {
            key.body(&body.bytes);
        }
        self.header(&body, Some("jobs")).await.map_err(Problem::validation)?;
        let members = body.members();
        let jobs = members.iter().find(|(name, _)| name == "jobs").map(|(_, raw)| raw.get());
        let open = self.source.scope == Scope::New && !self.gathered.header.sealed;
        let jobs: Vec<&RawValue> = match jobs.map(serde_json::from_str) {
            Some(Ok(jobs)) => jobs,
            Some(Err(_)) => return Err(wrong("must be an array")),
            None if open => Vec::new(),
            None => return Err(wrong("is required")),
        };
        if jobs.is_empty() && !open {
            return Err(wrong("must have a job"));
        }
        for (n, job) in jobs.into_iter().enumerate() {
            self.job(Bytes::copy_from_slice(job.get().as_bytes()), None, format!("/jobs/{n}")).await?;
        }
        self.settle().await
    }

    /// A job a line.
    async fn lines(&mut self, body: Body) -> Result<(), Problem> {
        let limit = self.source.app.server.max_batch_bytes;
        let mut pieces = decoded(self.source.headers, body, limit)?;
        let mut lines = Lines::new(self.source.app.server.max_body_bytes);
        let mut first = true;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if let Some(key) = &mut self.key {
                key.body(&piece);
            }
            lines.feed(&piece);
            while let Some((number, line)) = lines.next().map_err(|long| self.too_long(&long))? {
                self.line(number, line, std::mem::take(&mut first)).await?;
            }
        }
        if let Some((number, line)) = lines.last().map_err(|long| self.too_long(&long))? {
            self.line(number, line, std::mem::take(&mut first)).await?;
        }
        self.settle().await?;
        let open = self.source.scope == Scope::New && !self.gathered.header.sealed;
        if self.gathered.spool.count() == 0 && self.gathered.refused == 0 && !open {
            return Err(Problem::validation(vec![FieldError::at("", "must have a job")]));
        }
        Ok(())
    }

    fn too_long(&self, TooLong { line }: &TooLong) -> Problem {
        Problem::too_large(self.source.app.server.max_body_bytes).with("line", *line)
    }

    /// A job, or what is said of all of them: `{"batch": {…}}` in the first line.
    async fn line(&mut self, number: u64, line: Bytes, first: bool) -> Result<(), Problem> {
        if first && let Some(header) = header_of(&line) {
            let wrong = |errors: Vec<FieldError>| {
                Problem::validation(errors.into_iter().map(|error| error.within(Some(number), "/batch")).collect())
            };
            return self.header(&header, None).await.map_err(wrong);
        }
        self.job(line, Some(number), String::new()).await
    }

    async fn header(&mut self, body: &JsonBody, besides: Option<&str>) -> Result<(), Vec<FieldError>> {
        for part in ["defaults", "follow_up"] {
            if let Some(kind) = body.value.get(part).and_then(|part| part.get("kind")).and_then(Value::as_str) {
                self.know(kind).await;
            }
        }
        let Source { app, request, scope, .. } = &self.source;
        self.gathered.header = Header::read(body, *scope, besides, &app.rules(&self.known), request)?;
        Ok(())
    }

    async fn job(&mut self, bytes: Bytes, line: Option<u64>, base: String) -> Result<(), Problem> {
        let length = bytes.len();
        let checked = match serde_json::from_slice(&bytes) {
            Ok(value) => {
                let body = JsonBody { bytes, value };
                self.know(kind_of(&body)).await;
                Submission::check(&body, &self.source.app.rules(&self.known), &self.gathered.header.defaults)
            }
            Err(error) => Err(vec![FieldError::at("", format!("is not JSON: {error}"))]),
        };
        let submission = match checked {
            Ok(submission) => submission,
            Err(errors) => {
                self.refuse(errors, line, &base);
                return Ok(());
            }
        };
        if !self.ordering.holds(&submission) {
            return self.keep(&submission).await;
        }
        if self.ordering.hold(Held { submission, line, base, bytes: length }) {
            self.settle().await?;
        }
        Ok(())
    }

    /// Keeps those jobs that were held back until it is known whether what they run after is there.
    async fn settle(&mut self) -> Result<(), Problem> {
        let parents = self.ordering.parents();
        let app = self.source.app;
        let unknown =
            if parents.is_empty() { Vec::new() } else { app.ask(app.store.unknown(TENANT, &parents)).await? };
        let unknown = unknown.into_iter().collect();
        for Held { submission, line, base, .. } in self.ordering.take() {
            match self.ordering.check(&submission, &unknown) {
                errors if errors.is_empty() => self.keep(&submission).await?,
                errors => self.refuse(errors, line, &base),
            }
        }
        Ok(())
    }

    fn refuse(&mut self, errors: Vec<FieldError>, line: Option<u64>, base: &str) {
        self.gathered.refused += 1;
        let room = MAX_ERRORS.saturating_sub(self.gathered.refusals.len());
        let errors = errors.into_iter().map(|error| error.within(line, base));
        self.gathered.refusals.extend(errors.take(room));
    }

    async fn keep(&mut self, submission: &Submission) -> Result<(), Problem> {
        // Of what is refused as a whole nothing needs to be kept.
        if self.gathered.refused > 0 && !self.source.partial {
            return Ok(());
        }
        if self.gathered.spool.count() == MAX_JOBS {
            let detail = format!("a request takes up to {MAX_JOBS} jobs; add more to an open batch");
            return Err(Problem::new(ProblemType::ContentTooLarge, detail).with("limit_jobs", MAX_JOBS));
        }
        self.unique += u64::from(submission.unique().is_some());
        if self.unique > MAX_UNIQUE {
            let detail =
                format!("a request takes up to {MAX_UNIQUE} jobs with a unique_key; send the others in another one");
            return Err(Problem::new(ProblemType::ContentTooLarge, detail).with("limit_jobs", MAX_UNIQUE));
        }
        self.gathered.spool.push(submission).await.map_err(|error| {
            tracing::error!(%error, "the jobs of a batch cannot be kept in a temporary file");
            Problem::new(ProblemType::StorageUnavailable, "the jobs cannot be kept; the server's log says why")
        })
    }

    /// Looks for a kind that a worker may have registered since.
    async fn know(&mut self, kind: &str) {
        if !kind.is_empty() && self.known.kinds.get(kind).is_none() {
            self.known = self.source.app.catalog.knowing(kind).await;
        }
    }
}

fn wrong(detail: &str) -> Problem {
    Problem::validation(vec![FieldError::at("/jobs", detail)])
}

/// What is in `{"batch": …}`, if the line is that and nothing else.
fn header_of(line: &Bytes) -> Option<JsonBody> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let body = JsonBody { bytes: line.clone(), value };
    let members = body.members();
    let [(name, raw)] = &members[..] else { return None };
    if name != "batch" {
        return None;
    }
    let bytes = Bytes::copy_from_slice(raw.get().as_bytes());
    Some(JsonBody { value: serde_json::from_slice(&bytes).ok()?, bytes })
}
