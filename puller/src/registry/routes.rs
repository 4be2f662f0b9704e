//! Where a registry's content is asked for: its mirrors in their order, then the registry itself, as the configuration
//! says. A mirror that fails or lies costs a message and the next is asked; only the last one's failure is the request's.
//!
//! Each place is a client of its own: its own address, certificates and credentials, which are looked up by its own name.
//! What comes is proved against the same digests whoever sent it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use strata_oci::Digest;

use super::{Registry, RegistryError, RegistryOptions, Transport};
use crate::config::Config;
use crate::config::target::Target;
use crate::progress::{Event, Progress};

/// How often a mirror is tried: there is another place to ask.
const MIRROR_TRIES: u32 = 2;

/// What the configuration makes of one registry.
pub(super) struct Routes {
    config: Arc<Config>,
    options: RegistryOptions,
    progress: OnceLock<Arc<dyn Progress>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The steps for a repository.
    steps: HashMap<String, Vec<Step>>,
    /// Places that are not asked any more.
    useless: HashSet<String>,
    /// Whether the image that is being read in a repository is named by a tag.
    by_tag: HashMap<String, bool>,
    /// The mirrors that have sent bytes of a blob.
    served: HashMap<Digest, HashSet<String>>,
}

/// One place to ask.
#[derive(Clone)]
pub(super) struct Step {
    /// None: the registry itself, where its name says.
    site: Option<(Arc<Registry>, Target)>,
    /// What the repository is called there.
    pub(super) repository: String,
    /// The place, for messages and to know it again.
    place: String,
    mirror: bool,
}

impl Step {
    /// The client of the place.
    pub(super) fn site<'a>(&'a self, own: &'a Registry) -> &'a Registry {
        self.site.as_ref().map_or(own, |(site, _)| site)
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A manifest, by tag or by digest.
    Manifest { by_tag: bool },
    /// Something by digest that belongs to it.
    Blob,
}

/// The places that are left to ask.
pub(super) struct Steps<'a> {
    own: &'a Registry,
    repository: &'a str,
    want: Want,
    left: VecDeque<Step>,
}

impl Routes {
    pub(super) fn new(config: Arc<Config>, options: RegistryOptions) -> Self {
        Self {
            config,
            options,
            progress: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one insertion: whole at every instant.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, text: String) {
        match self.progress.get() {
            Some(progress) => progress.event(Event::Message(text)),
            None => tracing::warn!("{text}"),
        }
    }

    /// All places for a repository, the registry last.
    fn all(&self, own: &Registry, repository: &str) -> Result<Vec<Step>, RegistryError> {
        if let Some(steps) = self.state().steps.get(repository) {
            return Ok(steps.clone());
        }
        let plan = self.config.plan(own.name(), repository)?;
        let mut steps = Vec::new();
        for target in plan.mirrors {
            steps.push(self.step(target, true)?);
        }
        steps.push(match plan.registry {
            Some(target) => self.step(target, false)?,
            None => Step {
                site: None,
                repository: repository.to_owned(),
                place: own.name().to_owned(),
                mirror: false,
            },
        });
        self.state()
            .steps
            .insert(repository.to_owned(), steps.clone());
        Ok(steps)
    }

    fn step(&self, target: Target, mirror: bool) -> Result<Step, RegistryError> {
        let mut options = self.options.clone();
        // Those are for the registry that was named.
        options.credentials = None;
        if options.transport != Transport::Unverified {
            options.transport = Transport::Default;
        }
        if mirror {
            options.retry.tries = options.retry.tries.min(MIRROR_TRIES);
        }
        let site = Registry::at(&target.host, &target, &options, &self.config)?;
        Ok(Step {
            repository: target.repository.clone(),
            place: target.host.clone(),
            site: Some((Arc::new(site), target)),
            mirror,
        })
    }
}

impl Registry {
    /// Where messages go: that a mirror failed, for instance.
    #[must_use]
    pub fn telling(self, progress: Arc<dyn Progress>) -> Self {
        if let Some(routes) = &self.routes {
            // Set once: a registry is made for one piece of work.
            let _ = routes.progress.set(progress);
        }
        self
    }

    /// Says something that a person may want to know.
    pub(crate) fn tell(&self, text: String) {
        match &self.routes {
            Some(routes) => routes.tell(text),
            None => tracing::warn!("{text}"),
        }
    }

    /// The places to ask for something in a repository, in their order.
    pub(super) fn steps<'a>(
        &'a self,
        repository: &'a str,
        want: Want,
    ) -> Result<Steps<'a>, RegistryError> {
        let mut left = VecDeque::new();
        if let Some(routes) = &self.routes {
            let all = routes.all(self, repository)?;
            let mut state = routes.state();
            let (by_tag, image_by_tag) = match want {
                Want::Manifest { by_tag } => {
                    // A digest after a tag is the manifest's that the tag led to.
                    let image = state.by_tag.entry(repository.to_owned()).or_insert(by_tag);
                    *image |= by_tag;
                    (by_tag, *image)
                }
                Want::Blob => (
                    false,
                    state.by_tag.get(repository).copied().unwrap_or(false),
                ),
            };
            left = all.into();
            left.retain(|step| {
                let serves = step
                    .site
                    .as_ref()
                    .is_none_or(|(_, target)| target.serves(by_tag, image_by_tag));
                let here = format!("{} {repository}", step.place);
                let useless = state.useless.contains(&step.place) || state.useless.contains(&here);
                !step.mirror || serves && !useless
            });
        }
        Ok(Steps {
            own: self,
            repository,
            want,
            left,
        })
    }

    /// Where the registry's own copy of a repository is: it may have been moved.
    pub(super) fn last_step(&self, repository: &str) -> Result<Step, RegistryError> {
        let mut steps = self.steps(repository, Want::Blob)?;
        while steps.left.len() > 1 {
            steps.left.pop_front();
        }
        Ok(steps.take())
    }

    /// Whether a name may be asked for at all.
    pub(super) fn permit(&self, repository: &str) -> Result<(), RegistryError> {
        match &self.routes {
            Some(routes) if !repository.is_empty() => routes.all(self, repository).map(drop),
            _ => Ok(()),
        }
    }

    /// Takes note that the bytes of a blob were wrong or did not come. `true`: mirrors had sent them, which are not asked
    /// any more, so that another try is worth it.
    pub(crate) fn distrust(&self, blob: &Digest, why: &str) -> bool {
        let Some(routes) = &self.routes else {
            return false;
        };
        let mut state = routes.state();
        let Some(places) = state.served.remove(blob) else {
            return false;
        };
        state.useless.extend(places.iter().cloned());
        drop(state);
        for place in places {
            routes.tell(format!("mirror {place}: {why}; it is not asked any more"));
        }
        true
    }
}

impl Steps<'_> {
    /// The next place; when all are used up, the registry.
    pub(super) fn take(&mut self) -> Step {
        self.left.pop_front().unwrap_or_else(|| Step {
            site: None,
            repository: self.repository.to_owned(),
            place: self.own.name().to_owned(),
            mirror: false,
        })
    }

    /// Takes note of what a place has given.
    pub(super) fn served(&self, step: &Step, blob: Option<&Digest>) {
        if step.site.is_some() {
            let (place, repository) = (&step.place, &step.repository);
            match blob {
                Some(digest) => tracing::debug!("{place} serves blob {digest} of {repository}"),
                None => tracing::debug!("{place} serves the manifest of {repository}"),
            }
        }
        if let (Some(routes), Some(blob), true) = (&self.own.routes, blob, step.mirror) {
            let mut state = routes.state();
            let places = state.served.entry(blob.clone()).or_default();
            places.insert(step.place.clone());
        }
    }

    /// Passes a failure on if nobody else can be asked; else tells of it.
    pub(super) fn failed(&self, step: &Step, error: RegistryError) -> Result<(), RegistryError> {
        let of_this_machine = matches!(
            error,
            RegistryError::Credentials(_) | RegistryError::Config(_) | RegistryError::Local { .. }
        );
        let (Some(routes), Some(next), false) =
            (&self.own.routes, self.left.front(), of_this_machine)
        else {
            return Err(error);
        };
        let place = &step.place;
        match error {
            RegistryError::Unreachable { .. } | RegistryError::Content { .. } => {
                routes.state().useless.insert(place.clone());
            }
            // What it has not, or does not show to us, it has no blobs of either.
            _ if matches!(self.want, Want::Manifest { .. }) => {
                let here = format!("{place} {}", self.repository);
                routes.state().useless.insert(here);
            }
            _ => {}
        }
        routes.tell(format!("mirror {place}: {error}; asking {}", next.place));
        Ok(())
    }

    /// Takes note that a place has it not.
    pub(super) fn absent(&self, step: &Step) {
        tracing::debug!("mirror {} has it not", step.place);
    }

    /// Whether there is nobody else to ask.
    pub(super) fn is_last(&self) -> bool {
        self.left.is_empty()
    }
}
