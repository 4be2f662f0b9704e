//! The one gate that every request passes: who it is, what it wants, whether a rule allows it.
//!
//! What no rule allows is denied. A request is served only with a [`Grant`], and only the gate makes one, so
//! that a new route cannot forget to ask (CVE-2026-27771 was a route that had forgotten for four years).

use strata_oci::Repository;

use crate::route::Route;

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular.
    Anonymous,
}

impl Principal {
    /// The name that upload sessions are bound to.
    pub fn name(&self) -> &str {
        match self {
            Self::Anonymous => "anonymous",
        }
    }
}

/// What can be done to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read.
    Pull,
    /// Add, and move tags.
    Push,
    /// Take away.
    Delete,
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access<'a> {
    /// To know that this is a registry, and what its paths answer.
    Base,
    /// The names of all repositories.
    Catalog,
    /// Something of one repository.
    Repository(&'a Repository, Action),
}

impl<'a> Access<'a> {
    /// What a route needs.
    pub fn of(route: &'a Route) -> Self {
        match route {
            Route::Base | Route::Options(_) => Self::Base,
            Route::Catalog => Self::Catalog,
            Route::Tags(repository)
            | Route::Referrers(repository, _)
            | Route::GetBlob { repository, .. }
            | Route::GetManifest { repository, .. } => Self::Repository(repository, Action::Pull),
            Route::StartUpload(repository)
            | Route::UploadStatus(repository, _)
            | Route::AppendUpload(repository, _)
            | Route::FinishUpload(repository, _)
            | Route::CancelUpload(repository, _)
            | Route::PutManifest(repository, _) => Self::Repository(repository, Action::Push),
            Route::DeleteBlob(repository, _) | Route::DeleteManifest(repository, _) => {
                Self::Repository(repository, Action::Delete)
            }
        }
    }
}

/// Something that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Everything, to everyone who can reach the registry.
    Everyone,
}

impl Rule {
    fn allows(self, _principal: &Principal, _access: &Access<'_>) -> bool {
        match self {
            Self::Everyone => true,
        }
    }
}

/// The permission to serve one request.
#[derive(Debug)]
pub struct Grant {
    principal: Principal,
}

impl Grant {
    /// To whom it was given.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

/// The rules of this registry. Without any it denies everything.
#[derive(Debug, Default)]
pub struct Gate {
    rules: Vec<Rule>,
}

impl Gate {
    /// A gate with these rules.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// Lets a request pass, or not.
    pub fn admit(&self, principal: Principal, access: &Access<'_>) -> Option<Grant> {
        self.allows(&principal, access)
            .then_some(Grant { principal })
    }

    /// Whether something is allowed that a request needs besides its own route, such as reading the
    /// repository that a blob is mounted from.
    pub fn allows(&self, principal: &Principal, access: &Access<'_>) -> bool {
        self.rules.iter().any(|rule| rule.allows(principal, access))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_rule_allows_is_denied() {
        let closed = Gate::default();
        assert!(closed.admit(Principal::Anonymous, &Access::Base).is_none());
        let open = Gate::new(vec![Rule::Everyone]);
        assert!(open.admit(Principal::Anonymous, &Access::Catalog).is_some());
    }
}
