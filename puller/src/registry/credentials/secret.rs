//! What nobody else may see: zeroed when it is dropped, and never in a log.

use std::fmt;

use zeroize::Zeroizing;

/// A user's name that says: the password is an identity token (docker-credential-helpers).
const TOKEN_USER: &str = "<token>";

/// A password or token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text that is secret from now on.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for where it has to go.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a registry or its token service is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name with its password or access token.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token that the token service gave at login, to be exchanged for access tokens (OAuth2's refresh token).
    Identity(Secret),
    /// An access token that is shown as it is.
    Access(Secret),
}

impl Credentials {
    /// A name and a password; the name `<token>` makes the password an identity token.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        let (user, secret) = (user.into(), Secret::new(password.into()));
        if user == TOKEN_USER {
            return Self::Identity(secret);
        }
        Self::Password {
            user,
            password: secret,
        }
    }

    /// The name as stores keep it.
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } => user,
            Self::Identity(_) | Self::Access(_) => TOKEN_USER,
        }
    }

    /// The password or token.
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Password { password, .. } => password,
            Self::Identity(token) | Self::Access(token) => token,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials::new("me", "hunter2");
        assert!(!format!("{credentials:?}").contains("hunter2"));
        assert_eq!(credentials.secret().expose(), "hunter2");
        let token = Credentials::new("<token>", "abc");
        assert_eq!(token, Credentials::Identity(Secret::new("abc".to_owned())));
    }
}
