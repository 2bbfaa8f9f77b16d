//! A small client of the public HTTP API, for the client subcommands and the demo. It knows nothing that any other
//! client could not know.

mod batch;
mod error;
mod job;
mod schedule;
mod submission;
mod wait;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use offload_common::RawJson;
use offload_common::job::{FileId, JobId};
use reqwest::header::{ACCEPT, CONTENT_TYPE, LINK};
use reqwest::{Body, Method, RequestBuilder, Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(crate) use batch::BatchView;
pub(crate) use error::ClientError;
pub(crate) use job::{FileView, JobView, KindView};
pub(crate) use schedule::{NewSchedule, ScheduleView};
pub(crate) use submission::Submission;
pub(crate) use wait::{Patience, Waited};

type Result<T, E = ClientError> = std::result::Result<T, E>;

/// How long a request without a wait may take to be answered.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a file may take to get there.
const TRANSFER: Duration = Duration::from_secs(600);
const CONNECT: Duration = Duration::from_secs(5);

/// What the server answered: as it came, for scripts, and decoded.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// The JSON as the server wrote it.
    pub(crate) raw: RawJson,
    /// What it says.
    pub(crate) value: T,
}

/// A server, and how to talk to it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    key: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<RawJson>,
}

impl Client {
    /// A client of the server at this address; `key` goes along as a bearer token.
    ///
    /// # Errors
    /// [`ClientError::Address`] where that is no HTTP address.
    pub(crate) fn new(server: &str, key: Option<String>) -> Result<Self> {
        let wrong = |reason: String| ClientError::Address { server: server.to_owned(), reason };
        let mut server: Url = server.parse().map_err(|error| wrong(format!("{error}")))?;
        if !matches!(server.scheme(), "http" | "https") {
            return Err(wrong("it does not begin with http:// or https://".to_owned()));
        }
        if !server.path().ends_with('/') {
            server.set_path(&format!("{}/", server.path()));
        }
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .user_agent(concat!("offload/", env!("CARGO_PKG_VERSION")));
        // A proxy cannot reach this machine's loopback.
        if matches!(server.host_str(), Some("127.0.0.1" | "localhost" | "[::1]")) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| wrong(error.to_string()))?;
        Ok(Self { http, server, key })
    }

    /// Submits a job.
    pub(crate) async fn submit(&self, job: &Submission, idempotency_key: Option<&str>) -> Result<Answer<JobView>> {
        let mut request = self.request(Method::POST, "v1/jobs")?.json(job);
        if let Some(key) = idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        self.json(request.timeout(ANSWER)).await
    }

    /// A job; with `wait`, as soon as it is final or that time has passed.
    pub(crate) async fn job(&self, id: JobId, wait: Option<Duration>) -> Result<Answer<JobView>> {
        let mut request = self.request(Method::GET, &format!("v1/jobs/{id}"))?;
        if let Some(wait) = wait {
            request = request.query(&[("wait", wait.as_secs().max(1))]);
        }
        self.json(request.timeout(ANSWER + wait.unwrap_or_default())).await
    }

    /// Cancels a job.
    pub(crate) async fn cancel(&self, id: JobId) -> Result<Answer<JobView>> {
        self.json(self.request(Method::POST, &format!("v1/jobs/{id}/cancel"))?.timeout(ANSWER)).await
    }

    /// Lists jobs that match, newest first, page by page up to `limit`.
    pub(crate) async fn jobs(&self, filter: &[(&str, String)], limit: usize) -> Result<Vec<Answer<JobView>>> {
        self.list("v1/jobs", filter, limit).await
    }

    /// Lists what is at a path, page by page up to `limit`.
    async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        filter: &[(&str, String)],
        limit: usize,
    ) -> Result<Vec<Answer<T>>> {
        let mut request = self.request(Method::GET, path)?.query(filter).query(&[("limit", limit.clamp(1, 1000))]);
        let mut found = Vec::new();
        loop {
            let response = self.send(request.timeout(ANSWER)).await?;
            let next = next_page(&response);
            found.extend(self.items(response).await?);
            match next {
                Some(next) if found.len() < limit => {
                    request = self.request(Method::GET, next.trim_start_matches('/'))?
                }
                _ => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The kinds of jobs that the server accepts.
    pub(crate) async fn kinds(&self) -> Result<Vec<Answer<KindView>>> {
        let response = self.send(self.request(Method::GET, "v1/kinds")?.timeout(ANSWER)).await?;
        self.items(response).await
    }

    /// Uploads a file.
    pub(crate) async fn upload(&self, content_type: &str, content: impl Into<Body>) -> Result<Answer<FileView>> {
        let request = self.request(Method::POST, "v1/files")?.header(CONTENT_TYPE, content_type).body(content);
        self.json(request.timeout(TRANSFER)).await
    }

    /// Downloads a file, in pieces.
    pub(crate) async fn download(&self, id: FileId) -> Result<impl Stream<Item = Result<Bytes>> + use<>> {
        let response = self.send(self.request(Method::GET, &format!("v1/files/{id}"))?.timeout(TRANSFER)).await?;
        let server = self.server.clone();
        Ok(response.bytes_stream().map(move |piece| piece.map_err(|error| ClientError::transport(&server, error))))
    }

    /// Whether the server is ready to take jobs.
    pub(crate) async fn ready(&self) -> Result<()> {
        self.send(self.request(Method::GET, "readyz")?.timeout(CONNECT)).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let url = self
            .server
            .join(path)
            .map_err(|error| ClientError::Address { server: self.server.to_string(), reason: error.to_string() })?;
        let request =
            self.http.request(method, url).header(ACCEPT, "application/json, application/problem+json, */*;q=0.1");
        Ok(match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|error| ClientError::transport(&self.server, error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        Err(ClientError::refused(status, &body))
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Answer<T>> {
        let response = self.send(request).await?;
        self.decode(response.bytes().await.map_err(|error| ClientError::transport(&self.server, error))?)
    }

    async fn items<T: DeserializeOwned>(&self, response: Response) -> Result<Vec<Answer<T>>> {
        let body = response.bytes().await.map_err(|error| ClientError::transport(&self.server, error))?;
        let page: Answer<Page> = self.decode(body)?;
        page.value.items.into_iter().map(|item| self.decode(Bytes::copy_from_slice(item.get().as_bytes()))).collect()
    }

    fn decode<T: DeserializeOwned>(&self, body: Bytes) -> Result<Answer<T>> {
        let odd =
            |error: serde_json::Error| ClientError::Odd { server: self.server.to_string(), reason: error.to_string() };
        let raw: RawJson = serde_json::from_slice(&body).map_err(odd)?;
        let value = serde_json::from_str(raw.get()).map_err(odd)?;
        Ok(Answer { raw, value })
    }
}

/// The target of `Link: <…>; rel="next"`.
fn next_page(response: &Response) -> Option<String> {
    let links = response.headers().get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|value| value.split(", ")).find_map(|link| {
        let (target, parameters) = link.split_once(';')?;
        let is_next = parameters.contains("rel=\"next\"") || parameters.contains("rel=next");
        is_next.then(|| target.trim().trim_start_matches('<').trim_end_matches('>').to_owned())
    })
}
