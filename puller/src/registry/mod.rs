//! The client of the distribution protocol (distribution-spec v1.1).
//!
//! A [`Registry`] stands for one host. References and the manifest PUT go through `oci_distribution`;
//! blobs travel by `http::Http` because they resume, report and prove themselves while they pass (a mount,
//! because it may begin an upload), and so do the reads whose answers have to be bounded and redirects judged.

mod auth;
mod blobs;
mod challenge;
mod client;
pub mod credentials;
mod endpoint;
mod error;
pub(crate) mod http;
mod listing;
mod login;
mod manifests;
mod pace;
mod peer;
mod redirect;
mod retry;
mod routes;
mod scope;
mod stream;
mod token;
mod upload;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};

pub use blobs::{BlobBody, OpenBlobError, Purpose};
pub use credentials::{CredentialStore, Credentials};
pub use endpoint::{Transport, is_loopback};
pub use error::RegistryError;
pub use listing::{Referrers, referrers_tag};
pub use login::Login;
pub use manifests::{ManifestHead, RawManifest};
pub use pace::Pace;
pub(crate) use pace::Watch;
pub use retry::RetryPolicy;
pub use stream::{BlobStream, Retrying};
pub use upload::{CHUNK, Chunks, Mount, Session, Upload};

use auth::{Auth, Source};
use http::{Call, Http};
use peer::Peer;
use routes::Routes;
use scope::Scope;

use crate::config::target::Target;
use crate::config::{self, Config};
use endpoint::Reach;

/// How to talk to a registry.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// HTTP or HTTPS, and whether certificates are checked.
    pub transport: Transport,
    /// What to log in with; else what is stored, else nothing.
    pub credentials: Option<Credentials>,
    /// Where stored credentials are looked for; else where the user's clients keep theirs.
    pub store: Option<CredentialStore>,
    /// Mirrors, certificates and other rules about registries.
    pub config: config::Source,
    /// When to try again.
    pub retry: RetryPolicy,
    /// When to give up waiting.
    pub timeouts: Timeouts,
    /// How many blobs, or parts of blobs, are fetched from it at once; further ones wait. The configuration of
    /// the registry goes before it. None: 16.
    pub connections: Option<NonZeroUsize>,
}

/// As many as the four layers that are fetched at once may take when each is fetched in four parts.
const CONNECTIONS: usize = 16;

/// How long to wait for a sign of life.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For an answer, or the next bytes of one.
    pub idle: Duration,
    /// For the answer to an upload: the registry hashes and syncs before it gives one.
    pub commit: Duration,
    /// How a connection that brings bytes of a blob is watched.
    pub pace: Pace,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            commit: Duration::from_secs(300),
            pace: Pace::default(),
        }
    }
}

/// One registry.
pub struct Registry {
    name: String,
    http: Http,
    auth: Auth,
    peer: Peer,
    /// Where the protocol begins: `/v2`.
    api: String,
    /// The registry that this one is to stand for, where it wants to be told.
    ns: Option<String>,
    /// None: this is one of the places itself.
    routes: Option<Routes>,
    /// Whether it may be asked to mount a blob without saying where from.
    finds_blobs: AtomicBool,
}

impl Registry {
    /// A client for the registry called `name` (`docker.io`, `localhost:5000`). Nothing is sent yet.
    ///
    /// # Errors
    /// The name is not a host with an optional port, or the configuration is of no use.
    pub fn new(name: &str, options: &RegistryOptions) -> Result<Self, RegistryError> {
        let config = options.config.load()?;
        let target = config.registry(name)?;
        let mut registry = Self::at(name, &target, options, &config)?;
        registry.routes = Some(Routes::new(config, options.clone()));
        Ok(registry)
    }

    /// A client for one place; credentials are looked up by `name`.
    fn at(
        name: &str,
        target: &Target,
        options: &RegistryOptions,
        config: &Arc<Config>,
    ) -> Result<Self, RegistryError> {
        let source = match &options.credentials {
            Some(credentials) => Source::Given(credentials.clone()),
            None => {
                let store = options.store.clone();
                let store = store.unwrap_or_else(CredentialStore::of_user);
                Source::Stored(store, name.to_owned())
            }
        };
        let connections = target.connections.or(options.connections);
        let reach = Reach::new(target, options.transport, config.certs_dirs())?;
        Ok(Self {
            name: name.to_owned(),
            peer: Peer::new(&reach.base, reach.verify, options.timeouts),
            http: Http::new(
                reach,
                options.retry,
                options.timeouts,
                connections.map_or(CONNECTIONS, NonZeroUsize::get),
            ),
            auth: Auth::new(source, target.realms.clone()),
            api: target.api.clone(),
            ns: target.ns.clone(),
            routes: None,
            finds_blobs: AtomicBool::new(true),
        })
    }

    /// The name that references use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When a connection that brings bytes counts as stalled.
    pub fn pace(&self) -> Pace {
        self.http.timeouts.pace
    }

    /// When a broken transfer is tried again.
    pub fn retry(&self) -> RetryPolicy {
        self.http.policy
    }

    /// Sends with the Authorization that the scope needs, obtained or renewed once on a 401.
    async fn send(&self, call: &Call<'_>, scope: &Scope) -> Result<Response, RegistryError> {
        self.permit(&scope.repository)?;
        let used = self.auth.known(scope).await;
        let response = self.http.send(call, used.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        match self.authorize(&response, scope, used.as_ref()).await? {
            Some(renewed) => self.http.send(call, Some(&renewed)).await,
            None => Ok(response),
        }
    }

    async fn authorize(
        &self,
        response: &Response,
        scope: &Scope,
        used: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        // Another host's challenge is not answered: it would be given this registry's credentials.
        if !self.http.is_own(response.url()) {
            return Ok(None);
        }
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let text: Vec<&str> = challenges.filter_map(|h| h.to_str().ok()).collect();
        self.auth
            .meet(&self.http, &text.join(", "), scope, used)
            .await
    }

    /// [`Registry::send`], where only success will do.
    async fn expect(&self, call: &Call<'_>, scope: &Scope) -> Result<Response, RegistryError> {
        let response = self.send(call, scope).await?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.http.status_error(call, response).await)
        }
    }

    /// `BASE/v2/REPOSITORY/…`; names are checked by the reference grammar, so none needs escaping.
    fn url(&self, repository: &str, rest: &str) -> reqwest::Url {
        self.address(&format!("{repository}/{rest}"))
    }

    /// `BASE/v2/…`
    fn address(&self, rest: &str) -> reqwest::Url {
        let mut url = self.http.base().clone();
        url.set_path(&format!("{}/{rest}", self.api));
        if let Some(ns) = &self.ns {
            url.query_pairs_mut().append_pair("ns", ns);
        }
        url
    }

    /// Whether this is reached as the peer's client reaches registries.
    fn is_plain_matter(&self) -> bool {
        self.http.is_plain_matter() && self.api == "/v2" && self.ns.is_none()
    }
}
