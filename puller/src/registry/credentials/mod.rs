//! Names, passwords and tokens that were stored by this program or by other clients.
//!
//! docker's `config.json` and containers' `auth.json` share one form (containers-auth.json(5)); either may
//! leave the secrets to a credential helper, a program of its own.

mod error;
mod file;
mod helper;
mod key;
mod secret;
mod store;

pub use error::CredentialsError;
pub use key::Key;
pub use secret::{Credentials, Secret};
pub use store::{CredentialStore, Found, Place};
