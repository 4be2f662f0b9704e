//! Access tokens from a registry's token service: by GET with a name and password or anonymously
//! (distribution's "Token Authentication Specification"), by POST with an identity token or where the service
//! takes nothing else (its "OAuth2 Token Authentication").

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::credentials::{Credentials, Secret};
use super::http::{Body, Call, Http, authority};
use super::{RegistryError, redirect};

const MAX_TOKEN: usize = 1024 * 1024;
/// What a token lives when its giver does not say (the specification's default).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A life beyond which asking again costs nothing.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Who asks, as OAuth2 wants to know.
const CLIENT: &str = "strata";

/// An access token.
pub(super) struct Token {
    /// The Authorization to show.
    pub(super) header: HeaderValue,
    /// When to ask for another: a while before it runs out.
    pub(super) until: Instant,
    /// What its giver wants to see the next time instead of a password.
    pub(super) identity: Option<Secret>,
}

/// What is asked for.
pub(super) struct TokenRequest<'a> {
    /// The challenge's realm, as it came.
    pub(super) realm: &'a str,
    /// The challenge's service.
    pub(super) service: Option<&'a str>,
    /// What the token must allow; nothing at a login.
    pub(super) scopes: &'a [String],
    pub(super) credentials: Option<&'a Credentials>,
    /// The hosts that may see the credentials beside the registry's own; none: any that is asked by HTTPS.
    pub(super) realms: Option<&'a [String]>,
}

#[derive(Deserialize)]
struct Document {
    token: Option<Zeroizing<String>>,
    access_token: Option<Zeroizing<String>>,
    refresh_token: Option<Zeroizing<String>>,
    expires_in: Option<u64>,
    issued_at: Option<String>,
}

impl TokenRequest<'_> {
    fn what(&self) -> String {
        if self.scopes.is_empty() {
            "a token".to_owned()
        } else {
            format!("a token for {}", self.scopes.join(" "))
        }
    }

    fn invalid(&self, why: &str) -> RegistryError {
        RegistryError::Protocol {
            what: self.what(),
            why: why.to_owned(),
        }
    }

    /// Asks the token service.
    pub(super) async fn ask(&self, http: &Http) -> Result<Token, RegistryError> {
        let realm = Url::parse(self.realm);
        let realm = realm.map_err(|_| self.invalid("the challenge's realm is not an address"))?;
        if self.credentials.is_some()
            && let Err(why) = may_see_credentials(http, &realm, self.realms)
        {
            return Err(RegistryError::Redirect {
                what: self.what(),
                target: format!("{}://{}", realm.scheme(), authority(&realm)),
                why,
            });
        }
        let response = match self.credentials {
            Some(Credentials::Identity(token)) => {
                let grant = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token.expose()),
                ];
                self.post(http, &realm, &grant).await?
            }
            Some(Credentials::Password { user, password }) => {
                let response = self.get(http, &realm, Some((user, password))).await?;
                // A service that speaks OAuth2 only.
                if matches!(response.status().as_u16(), 404 | 405 | 501) {
                    let grant = [
                        ("grant_type", "password"),
                        ("access_type", "offline"),
                        ("username", user),
                        ("password", password.expose()),
                    ];
                    self.post(http, &realm, &grant).await?
                } else {
                    response
                }
            }
            Some(Credentials::Access(_)) | None => self.get(http, &realm, None).await?,
        };
        if !response.status().is_success() {
            let call = Call::new(Method::GET, realm, self.what());
            return Err(http.status_error(&call, response).await);
        }
        let bytes = http.body(response, MAX_TOKEN, &self.what()).await?;
        self.read(&Zeroizing::new(bytes))
    }

    async fn get(
        &self,
        http: &Http,
        realm: &Url,
        pair: Option<(&str, &Secret)>,
    ) -> Result<Response, RegistryError> {
        let mut url = realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in self.scopes {
                query.append_pair("scope", scope);
            }
            if let Some((user, _)) = pair {
                query.append_pair("account", user);
                if self.scopes.is_empty() {
                    query.append_pair("client_id", CLIENT);
                    query.append_pair("offline_token", "true");
                }
            }
        }
        let mut call = Call::new(Method::GET, url, self.what());
        if let Some((user, password)) = pair {
            let header = basic(user, password)
                .ok_or_else(|| self.invalid("the name or password is not text"))?;
            call.headers.insert(AUTHORIZATION, header);
        }
        http.send(&call, None).await
    }

    async fn post(
        &self,
        http: &Http,
        realm: &Url,
        grant: &[(&str, &str)],
    ) -> Result<Response, RegistryError> {
        // An address serializes pairs as forms are.
        let mut form = Url::parse("form:").map_err(|_| self.invalid("no form"))?;
        {
            let mut pairs = form.query_pairs_mut();
            pairs.append_pair("client_id", CLIENT);
            // OAuth2 wants one, whatever the challenge says.
            pairs.append_pair("service", self.service.unwrap_or_default());
            if !self.scopes.is_empty() {
                pairs.append_pair("scope", &self.scopes.join(" "));
            }
            pairs.extend_pairs(grant);
        }
        let body = form.query().unwrap_or_default().to_owned();
        let mut call = Call::new(Method::POST, realm.clone(), self.what());
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        call.headers.insert(CONTENT_TYPE, kind);
        call.body = Body::Bytes(Bytes::from(body));
        call.secret = true;
        http.send(&call, None).await
    }

    fn read(&self, bytes: &[u8]) -> Result<Token, RegistryError> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|_| self.invalid("the token is not JSON"))?;
        let given = |text: &Zeroizing<String>| !text.is_empty();
        let text = document
            .token
            .filter(given)
            .or(document.access_token.filter(given))
            .ok_or_else(|| self.invalid("there is no token in it"))?;
        let header = bearer(&text).ok_or_else(|| self.invalid("the token is not text"))?;
        let issued = document.issued_at.as_deref();
        let issued = issued.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let left = life(document.expires_in, issued, OffsetDateTime::now_utc());
        let identity = document.refresh_token.filter(given);
        Ok(Token {
            header,
            until: Instant::now() + left.mul_f64(0.9),
            identity: identity.map(|text| Secret::new(text.to_string())),
        })
    }
}

/// How long a token is good from now. What would have run out already comes from a clock that differs from
/// this machine's, and is good for as long as it says from now.
fn life(expires_in: Option<u64>, issued: Option<OffsetDateTime>, now: OffsetDateTime) -> Duration {
    let whole = expires_in.filter(|seconds| *seconds > 0);
    let whole = whole
        .map_or(DEFAULT_LIFE, Duration::from_secs)
        .min(LONGEST_LIFE);
    let age = issued.and_then(|issued| Duration::try_from(now - issued).ok());
    whole
        .checked_sub(age.unwrap_or_default())
        .filter(|left| !left.is_zero())
        .unwrap_or(whole)
}

/// A registry's 401 names the place that its credentials go to. The registry itself sees them anyway; another
/// host must be asked by HTTPS, so that nobody listens, or be on this machine like the registry; and where the
/// configuration lists hosts it must be one of them.
fn may_see_credentials(
    http: &Http,
    realm: &Url,
    realms: Option<&[String]>,
) -> Result<(), &'static str> {
    if http.is_own(realm) {
        return Ok(());
    }
    if let Some(allowed) = realms {
        let named = authority(realm);
        if !allowed.iter().any(|host| host.eq_ignore_ascii_case(&named)) {
            return Err(
                "the configuration's realms do not list it, so it is not shown credentials",
            );
        }
    }
    let base = http.base();
    let local = |url: &Url| redirect::literal_zone(url) == Some(redirect::Zone::Loopback);
    let same_host = base.host_str() == realm.host_str();
    match realm.scheme() {
        "https" => Ok(()),
        "http" if local(realm) && local(base) => Ok(()),
        "http" if same_host && base.scheme() == "http" => Ok(()),
        _ => Err("credentials are not sent to another host in the clear"),
    }
}

/// RFC 7617.
pub(super) fn basic(user: &str, password: &Secret) -> Option<HeaderValue> {
    let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
    sensitive(&Zeroizing::new(format!(
        "Basic {}",
        STANDARD.encode(pair.as_bytes())
    )))
}

/// RFC 6750.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&Zeroizing::new(format!("Bearer {token}")))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_life_is_counted_from_its_making() {
        let now = OffsetDateTime::from_unix_timestamp(1_000_000).expect("a time");
        let ago = |seconds: i64| Some(now - time::Duration::seconds(seconds));
        let seconds = Duration::from_secs;
        assert_eq!(life(Some(300), None, now), seconds(300));
        assert_eq!(life(Some(300), ago(100), now), seconds(200));
        assert_eq!(life(None, ago(20), now), seconds(40));
        assert_eq!(life(Some(0), None, now), seconds(60));
        assert_eq!(life(Some(u64::MAX), None, now), LONGEST_LIFE);
        // Clocks that differ.
        assert_eq!(life(Some(300), ago(400), now), seconds(300));
        assert_eq!(life(Some(300), ago(-400), now), seconds(300));
    }

    #[test]
    fn who_may_see_credentials() {
        let allowed = |registry: &str, realm: &str, realms: Option<&[String]>| {
            let http = Http::plain_for_tests(registry);
            may_see_credentials(&http, &Url::parse(realm).expect("an address"), realms).is_ok()
        };
        let hub = "https://registry.test";
        assert!(allowed(hub, "https://registry.test/token", None));
        assert!(allowed(hub, "https://auth.test/token", None));
        assert!(!allowed(hub, "http://auth.test/token", None));
        assert!(!allowed(hub, "http://registry.test/token", None));
        let only = ["auth.test".to_owned()];
        assert!(allowed(hub, "https://auth.test/token", Some(&only)));
        assert!(!allowed(hub, "https://other.test/token", Some(&only)));
        assert!(!allowed(hub, "http://auth.test/token", Some(&only)));
        assert!(allowed(hub, "https://registry.test/token", Some(&[])));
        let plain = "http://registry.test:5000";
        assert!(allowed(plain, "http://registry.test:5001/token", None));
        assert!(!allowed(plain, "http://auth.test/token", None));
        let local = "http://127.0.0.1:5000";
        assert!(allowed(local, "http://localhost:5001/token", None));
        assert!(!allowed(local, "http://auth.test/token", None));
    }
}
