//! Authorization: what a registry's challenge asks for, obtained and kept as long as it is valid.
//!
//! Nothing is looked up before a registry asks: a helper may be a slow program, and an unlocked keychain a
//! question to the person at the machine.

use std::collections::HashMap;
use std::time::Instant;

use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

use super::challenge::{self, Challenge};
use super::credentials::{CredentialStore, Credentials, CredentialsError, Found, Secret};
use super::http::Http;
use super::token::{Token, TokenRequest, basic, bearer};
use super::{RegistryError, Scope};

/// Where the credentials for one registry come from.
pub(super) enum Source {
    /// From the caller.
    Given(Credentials),
    /// From what is stored for this registry.
    Stored(CredentialStore, String),
}

/// What one registry has been shown, and will be shown again.
pub(super) struct Auth {
    source: Source,
    realms: Option<Vec<String>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// What there is for a repository.
    found: HashMap<String, Option<Credentials>>,
    /// For registries that want the credentials themselves, by repository.
    plain: HashMap<String, HeaderValue>,
    tokens: Vec<(Scope, Token)>,
}

impl Auth {
    /// `realms`: the only other hosts that may see the credentials.
    pub(super) fn new(source: Source, realms: Option<Vec<String>>) -> Self {
        Self {
            source,
            realms,
            known: Mutex::default(),
        }
    }

    /// The Authorization that the registry accepted before for this need, unless it has run out.
    pub(super) async fn known(&self, scope: &Scope) -> Option<HeaderValue> {
        self.known.lock().await.find(scope)
    }

    /// What there is to log in with for a repository.
    pub(super) async fn credentials(
        &self,
        repository: &str,
    ) -> Result<Option<Credentials>, RegistryError> {
        let mut known = self.known.lock().await;
        self.look_up(&mut known, repository).await
    }

    /// The identity token that came with an access token, if any did.
    pub(super) async fn identity(&self) -> Option<Secret> {
        let known = self.known.lock().await;
        let mut given = known
            .tokens
            .iter()
            .filter_map(|(_, token)| token.identity.clone());
        given.next()
    }

    async fn look_up(
        &self,
        known: &mut Known,
        repository: &str,
    ) -> Result<Option<Credentials>, RegistryError> {
        let (store, registry) = match &self.source {
            Source::Given(credentials) => return Ok(Some(credentials.clone())),
            Source::Stored(store, registry) => (store, registry),
        };
        if let Some(found) = known.found.get(repository) {
            return Ok(found.clone());
        }
        let (store, host, path) = (store.clone(), registry.clone(), repository.to_owned());
        let searched = tokio::task::spawn_blocking(move || store.find(&host, &path)).await;
        let found = searched.map_err(|_| CredentialsError::Interrupted)??;
        let credentials = found.map(|found| {
            let Found {
                credentials,
                place,
                warning,
            } = found;
            tracing::debug!(registry, repository, %place, "using stored credentials");
            if let Some(warning) = warning {
                tracing::warn!("{warning}");
            }
            credentials
        });
        known
            .found
            .insert(repository.to_owned(), credentials.clone());
        Ok(credentials)
    }

    /// Meets the challenge of a 401. `used` is the Authorization that was refused; where another
    /// task has renewed it meanwhile, that renewal is taken. `None`: nothing can be offered.
    pub(super) async fn meet(
        &self,
        http: &Http,
        header: &str,
        scope: &Scope,
        used: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let mut known = self.known.lock().await;
        if let Some(newer) = known.find(scope).filter(|header| Some(header) != used) {
            return Ok(Some(newer));
        }
        let Some(challenge) = challenge::parse(header) else {
            return Ok(None);
        };
        let credentials = self.look_up(&mut known, &scope.repository).await?;
        let shown = match (&challenge, &credentials) {
            (Challenge::Basic, Some(Credentials::Password { user, password })) => {
                basic(user, password)
            }
            (Challenge::Basic, _) => None,
            (Challenge::Bearer { .. }, Some(Credentials::Access(token))) => bearer(token.expose()),
            (
                Challenge::Bearer {
                    realm,
                    service,
                    scope: asked,
                },
                _,
            ) => {
                let request = TokenRequest {
                    realm,
                    service: service.as_deref(),
                    scopes: &scope.words_with(asked.as_deref()),
                    credentials: credentials.as_ref(),
                    realms: self.realms.as_deref(),
                };
                let token = request.ask(http).await?;
                let header = token.header.clone();
                known.keep(
                    scope,
                    token,
                    matches!(credentials, Some(Credentials::Identity(_))),
                );
                return Ok(Some(header));
            }
        };
        let Some(header) = shown.filter(|header| Some(header) != used) else {
            known.plain.remove(&scope.repository);
            return Ok(None);
        };
        known.plain.insert(scope.repository.clone(), header.clone());
        Ok(Some(header))
    }
}

impl Known {
    fn find(&self, scope: &Scope) -> Option<HeaderValue> {
        let now = Instant::now();
        let mut tokens = self.tokens.iter().filter(|(_, token)| token.until > now);
        let token = tokens.find(|(allowed, _)| allowed.covers(scope));
        let plain = || self.plain.get(&scope.repository).cloned();
        token.map(|(_, token)| token.header.clone()).or_else(plain)
    }

    fn keep(&mut self, scope: &Scope, token: Token, by_identity: bool) {
        // A service may give a new identity token each time, and take the old one no more.
        if by_identity && let Some(identity) = &token.identity {
            let renewed = Credentials::Identity(identity.clone());
            self.found.insert(scope.repository.clone(), Some(renewed));
        }
        let now = Instant::now();
        self.tokens
            .retain(|(old, token)| old != scope && token.until > now);
        self.tokens.push((scope.clone(), token));
    }
}
