//! Authorization: what a registry's challenge asks for, obtained and kept as long as it is valid
//! (distribution's "Token Authentication Specification"; RFC 7617 for Basic).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::http::{Call, Http};
use super::{RegistryError, Scope};

const MAX_TOKEN: usize = 1024 * 1024;
/// What a token lives when its giver does not say (the specification's default).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A life beyond which asking again costs nothing.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What one registry has been shown, and will be shown again.
pub(super) struct Auth {
    credentials: Option<Credentials>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    basic: Option<HeaderValue>,
    tokens: HashMap<String, Token>,
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

#[derive(Deserialize)]
struct TokenDocument {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        Self {
            credentials,
            known: Mutex::default(),
        }
    }

    /// What there is to log in with.
    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The Authorization that the registry accepted before for this need, unless it has run out.
    pub(super) async fn known(&self, scope: &Scope) -> Option<HeaderValue> {
        self.known.lock().await.find(scope)
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
        match challenge::parse(header) {
            None => Ok(None),
            Some(Challenge::Basic) => {
                known.basic = self.credentials.as_ref().and_then(basic);
                Ok(known.basic.clone().filter(|header| Some(header) != used))
            }
            Some(Challenge::Bearer {
                realm,
                service,
                scope: asked,
            }) => {
                let token = self.token(http, &realm, service, asked, scope).await?;
                let header = token.header.clone();
                known.tokens.insert(scope.key(), token);
                Ok(Some(header))
            }
        }
    }

    async fn token(
        &self,
        http: &Http,
        realm: &str,
        service: Option<String>,
        asked: Option<String>,
        scope: &Scope,
    ) -> Result<Token, RegistryError> {
        let what = format!("a token for {}", scope.key());
        let invalid = |why: &str| RegistryError::Protocol {
            what: what.clone(),
            why: why.to_owned(),
        };
        let mut url =
            Url::parse(realm).map_err(|_| invalid("the challenge's realm is not an address"))?;
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &service {
                query.append_pair("service", service);
            }
            let own = scope.words();
            for word in &own {
                query.append_pair("scope", word);
            }
            if own.is_empty()
                && let Some(asked) = &asked
            {
                query.append_pair("scope", asked);
            }
        }
        let mut call = Call::new(Method::GET, url, what.clone());
        if let Some(header) = self.credentials.as_ref().and_then(basic) {
            call.headers.insert(AUTHORIZATION, header);
        }
        let response = http.send(&call, None).await?;
        if !response.status().is_success() {
            return Err(http.status_error(&call, response).await);
        }
        let bytes = http.body(response, MAX_TOKEN, &what).await?;
        let document: TokenDocument =
            serde_json::from_slice(&bytes).map_err(|_| invalid("the token is not JSON"))?;
        let text = document
            .token
            .filter(|t| !t.is_empty())
            .or(document.access_token)
            .ok_or_else(|| invalid("there is no token in it"))?;
        let mut header = HeaderValue::try_from(format!("Bearer {text}"))
            .map_err(|_| invalid("the token is not text"))?;
        header.set_sensitive(true);
        let life = document
            .expires_in
            .map_or(DEFAULT_LIFE, Duration::from_secs)
            .min(LONGEST_LIFE);
        let until = Instant::now() + life.mul_f64(0.9);
        Ok(Token { header, until })
    }
}

impl Known {
    fn find(&self, scope: &Scope) -> Option<HeaderValue> {
        let token = self.tokens.get(&scope.key());
        let valid = token.filter(|token| token.until > Instant::now());
        valid.map(|t| t.header.clone()).or(self.basic.clone())
    }
}

fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let pair = format!("{}:{}", credentials.user, credentials.password);
    let mut header = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
    header.set_sensitive(true);
    Some(header)
}
