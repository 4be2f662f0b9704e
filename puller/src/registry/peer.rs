//! What goes through `oci_distribution`: the manifest PUT.
//!
//! Its client is given the Authorization that [`Auth`](super::auth::Auth) obtained, never the
//! credentials: it asks any realm that it is told, as often as it is told. It follows redirects of
//! its own accord, without Authorization to other hosts.

use std::sync::OnceLock;
use std::time::Duration;

use oci_distribution::client::{ClientConfig, ClientProtocol};
use oci_distribution::errors::OciDistributionError;
use oci_distribution::secrets::RegistryAuth;
use oci_distribution::token_cache::{RegistryToken, RegistryTokenType};
use oci_distribution::{Client, Reference, RegistryOperation};
use reqwest::Method;

use super::error::chain;
use super::http::{Call, authority};
use super::{Registry, RegistryError, Scope, Timeouts};

/// The crate's client for one registry, made when it is first needed.
pub(super) struct Peer {
    host: String,
    plain: bool,
    verify: bool,
    timeouts: Timeouts,
    client: OnceLock<Client>,
}

impl Peer {
    pub(super) fn new(base: &reqwest::Url, verify: bool, timeouts: Timeouts) -> Self {
        Self {
            host: authority(base),
            plain: base.scheme() == "http",
            verify,
            timeouts,
            client: OnceLock::new(),
        }
    }

    /// `reference` is a tag or a digest. The crate puts both into the address as they are, and
    /// ends the process when an answer to a PUT by digest has no Location; a digest in the place
    /// of a tag does neither harm.
    pub(super) fn reference(&self, repository: &str, reference: &str) -> Reference {
        Reference::with_tag(
            self.host.clone(),
            repository.to_owned(),
            reference.to_owned(),
        )
    }

    fn client(&self) -> Result<&Client, RegistryError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let protocol = if self.plain {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        };
        let config = ClientConfig {
            protocol,
            accept_invalid_certificates: !self.verify,
            connect_timeout: Some(self.timeouts.connect),
            read_timeout: Some(self.timeouts.commit),
            user_agent: concat!("strata/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let made =
            Client::try_from(config).map_err(|error| RegistryError::Client(chain(&error)))?;
        Ok(self.client.get_or_init(|| made))
    }
}

impl Registry {
    /// Runs one operation of the crate's client: again after failures that pass, and once more
    /// with a new Authorization after a 401.
    pub(super) async fn through_peer<T>(
        &self,
        what: &str,
        scope: &Scope,
        operation: impl AsyncFn(&Client) -> Result<T, OciDistributionError>,
    ) -> Result<T, RegistryError> {
        self.permit(&scope.repository)?;
        let client = self.peer.client()?;
        let mut failures = 0;
        let mut renewed = false;
        loop {
            let used = self.show(client, scope).await;
            let error = match operation(client).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let (status, message) = outcome(&error);
            let passing = match status {
                Some(401) if !renewed => {
                    renewed = true;
                    self.challenge(what, scope, used.as_ref()).await?;
                    continue;
                }
                Some(status) => matches!(status, 408 | 429 | 500 | 502..=504),
                None => matches!(error, OciDistributionError::RequestError(_)),
            };
            failures += 1;
            let wait = self.http.policy.wait(failures, None);
            match wait.filter(|_| passing) {
                Some(wait) => tokio::time::sleep(wait.max(Duration::from_millis(1))).await,
                None => return Err(self.peer_error(what, status, message)),
            }
        }
    }

    /// Gives the crate's client the Authorization that is known for the scope.
    async fn show(&self, client: &Client, scope: &Scope) -> Option<reqwest::header::HeaderValue> {
        let known = self.auth.known(scope).await?;
        let target = self.peer.reference(&scope.repository, "latest");
        let token = match known.to_str().ok()?.strip_prefix("Bearer ") {
            Some(token) => {
                let token = token.to_owned();
                RegistryTokenType::Bearer(RegistryToken::Token { token })
            }
            None => {
                let found = self.auth.credentials(&scope.repository).await;
                let credentials = found.ok().flatten()?;
                let secret = credentials.secret().expose().to_owned();
                RegistryTokenType::Basic(credentials.user().to_owned(), secret)
            }
        };
        let auth = match &token {
            RegistryTokenType::Bearer(token) => RegistryAuth::Bearer(token.token().to_owned()),
            RegistryTokenType::Basic(user, password) => {
                RegistryAuth::Basic(user.clone(), password.clone())
            }
        };
        client
            .store_auth_if_needed(target.resolve_registry(), &auth)
            .await;
        let operation = RegistryOperation::Push;
        client.tokens.insert(&target, operation, token).await;
        Some(known)
    }

    /// Obtains an Authorization for the scope by the challenge of `/v2/`, which every registry
    /// that wants one gives there.
    async fn challenge(
        &self,
        what: &str,
        scope: &Scope,
        used: Option<&reqwest::header::HeaderValue>,
    ) -> Result<(), RegistryError> {
        let call = Call::new(Method::GET, self.address(""), what);
        let response = self.http.send(&call, None).await?;
        self.authorize(&response, scope, used).await.map(drop)
    }

    fn peer_error(&self, what: &str, status: Option<u16>, message: String) -> RegistryError {
        let (host, what) = (self.http.host(), what.to_owned());
        match status {
            Some(401 | 403) => RegistryError::Denied {
                host,
                what,
                message,
            },
            Some(404) => RegistryError::NotFound { what, message },
            Some(status) => RegistryError::Status {
                what,
                status,
                message,
            },
            None => RegistryError::Unreachable {
                host,
                reason: message,
            },
        }
    }
}

/// The HTTP status in an error of the crate, if there was an answer, and its message.
fn outcome(error: &OciDistributionError) -> (Option<u16>, String) {
    match error {
        OciDistributionError::ServerError { code, message, .. } => {
            (Some(*code), super::http::words(message.as_bytes()))
        }
        OciDistributionError::UnauthorizedError { .. } => (Some(401), String::new()),
        other => (None, chain(other)),
    }
}
