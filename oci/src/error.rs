//! The distribution protocol's error codes and their JSON envelope (distribution-spec, "Error Codes").

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// An error code of the distribution protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name),*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[ErrorCode] = &[$(Self::$name),*];

            /// The code as it travels.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

codes! {
    /// The blob is not in this repository.
    BlobUnknown = "BLOB_UNKNOWN",
    /// The upload is broken, for instance a chunk out of order.
    BlobUploadInvalid = "BLOB_UPLOAD_INVALID",
    /// There is no such upload session.
    BlobUploadUnknown = "BLOB_UPLOAD_UNKNOWN",
    /// The digest is malformed or is not that of the content.
    DigestInvalid = "DIGEST_INVALID",
    /// The manifest names a blob or manifest that the repository lacks.
    ManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN",
    /// The manifest is malformed.
    ManifestInvalid = "MANIFEST_INVALID",
    /// There is no such manifest in this repository.
    ManifestUnknown = "MANIFEST_UNKNOWN",
    /// The repository name or the tag is malformed.
    NameInvalid = "NAME_INVALID",
    /// There is no such repository.
    NameUnknown = "NAME_UNKNOWN",
    /// A length does not fit the content.
    SizeInvalid = "SIZE_INVALID",
    /// Credentials are missing or wrong.
    Unauthorized = "UNAUTHORIZED",
    /// The credentials do not allow this.
    Denied = "DENIED",
    /// The registry does not do this.
    Unsupported = "UNSUPPORTED",
    /// The client must slow down.
    TooManyRequests = "TOOMANYREQUESTS",
    /// Something failed inside the registry; not in the specification, used by every registry.
    Unknown = "UNKNOWN",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The body of an error response: `{"errors":[{"code","message","detail"}]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// What went wrong, usually one entry.
    pub errors: Vec<Entry>,
}

/// One error of an [`Envelope`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// One of [`ErrorCode`]; a text because a peer may send any.
    pub code: String,
    /// For a person.
    #[serde(default)]
    pub message: String,
    /// For a program; unstructured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
}

impl Envelope {
    /// An envelope of one error.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let entry = Entry {
            code: code.as_str().to_owned(),
            message: message.into(),
            detail: None,
        };
        Self {
            errors: vec![entry],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelope_is_the_specifications() {
        let envelope = Envelope::new(ErrorCode::NameUnknown, "no");
        let json = serde_json::to_string(&envelope).expect("serializes");
        assert_eq!(
            json,
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no"}]}"#
        );
        let foreign: Envelope =
            serde_json::from_str(r#"{"errors":[{"code":"X","detail":{"a":1}}]}"#).expect("parses");
        assert_eq!(foreign.errors[0].code, "X");
    }
}
