//! Whether a registry takes credentials, before they are stored.

use reqwest::{Method, StatusCode};

use super::credentials::{Credentials, Secret};
use super::http::Call;
use super::{Registry, RegistryError, Scope};

/// What a registry says to a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// It takes the credentials; with an identity token, if its token service gives one to show instead of the
    /// password from now on.
    Accepted(Option<Secret>),
    /// It asks for no credentials, so it says nothing about these.
    Open,
}

impl Registry {
    /// Asks `/v2/` as any request would be asked, with the credentials that this registry was made with.
    ///
    /// # Errors
    /// [`RegistryError::Denied`]: they are refused. Another: the registry cannot be asked, or is none.
    pub async fn login(&self) -> Result<Login, RegistryError> {
        let call = Call::new(Method::GET, self.address(""), "a login");
        let scope = Scope::login();
        let first = self.http.send(&call, None).await?;
        if first.status().is_success() {
            return Ok(Login::Open);
        }
        if first.status() != StatusCode::UNAUTHORIZED {
            return Err(self.http.status_error(&call, first).await);
        }
        let Some(shown) = self.authorize(&first, &scope, None).await? else {
            return Err(self.http.status_error(&call, first).await);
        };
        let second = self.http.send(&call, Some(&shown)).await?;
        if !second.status().is_success() {
            return Err(self.http.status_error(&call, second).await);
        }
        let given = self.auth.identity().await;
        let before = self.auth.credentials("").await?;
        let new = given.filter(|token| before != Some(Credentials::Identity(token.clone())));
        Ok(Login::Accepted(new))
    }
}
