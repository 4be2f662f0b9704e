//! One blob's way into a registry: where it stands, what comes next, and when to give up.

use std::time::Duration;

use super::super::{Purpose, Registry, RegistryError, Scope};
use super::{CHUNK, Session, Upload};

/// What brings the upload less far beyond where it has ever been counts as nothing, and so does what is less
/// than one part in so many of the bytes that it took: else a registry could have a blob sent without end.
const WORTH_A_TRY: (u64, u64) = (4096, 64);

/// A session and what it holds.
pub(super) struct Place {
    pub(super) session: Session,
    /// The next byte that the registry waits for; `None`: it has to be asked.
    pub(super) offset: Option<u64>,
    /// The last byte that it may have, plus one.
    pub(super) given: u64,
    /// Nothing was sent to it before.
    pub(super) fresh: bool,
}

/// What one request led to.
pub(super) enum Step {
    /// The blob is in the registry.
    Done,
    /// On with the session, or with a new one.
    On(Option<Place>),
    /// The same after a failure, not before the time that the registry asked for.
    Failed(Option<Place>, RegistryError, Option<Duration>),
}

/// The upload of one blob.
pub(super) struct Sending<'a> {
    pub(super) registry: &'a Registry,
    repository: &'a str,
    pub(super) upload: &'a Upload<'a>,
    pub(super) scope: Scope,
    pub(super) what: String,
    /// Bytes that were sent in all tries.
    pub(super) sent: u64,
    /// Failures in a row that brought no progress.
    failures: u32,
    /// How far it has ever been.
    pub(super) best: u64,
    /// What had been sent then.
    spent: u64,
    /// Sessions that were begun.
    sessions: u32,
    /// Whether to send PATCHes; `None`: the registry does not take any.
    pub(super) chunked: Option<bool>,
    /// How far it was when the Authorization was renewed.
    pub(super) renewed: Option<u64>,
}

impl<'a> Sending<'a> {
    pub(super) fn new(registry: &'a Registry, repository: &'a str, upload: &'a Upload<'a>) -> Self {
        Self {
            registry,
            repository,
            upload,
            scope: Scope::push(repository),
            what: format!("upload of blob {}", upload.digest),
            sent: 0,
            failures: 0,
            best: 0,
            spent: 0,
            sessions: 0,
            chunked: Some(false),
            renewed: None,
        }
    }

    pub(super) async fn run(mut self, begun: Option<Session>) -> Result<u64, RegistryError> {
        let mut place = begun.map(Place::new);
        loop {
            let step = match place.take() {
                Some(place) => self.step(place).await?,
                None => self.begin().await?,
            };
            let (next, error, asked) = match step {
                Step::Done => return Ok(self.sent),
                Step::On(next) => {
                    place = next;
                    continue;
                }
                Step::Failed(next, error, asked) => (next, error, asked),
            };
            self.failures += 1;
            let policy = self.registry.http.policy;
            // Whoever takes bytes and loses them again makes progress each time, and never comes to an end.
            let again = next.is_some() || self.sessions < policy.tries;
            match policy.wait(self.failures, asked).filter(|_| again) {
                Some(wait) => {
                    tracing::debug!(%error, failures = self.failures, best = self.best, ?wait, "resuming the upload");
                    tokio::time::sleep(wait).await;
                }
                None => return Err(error),
            }
            place = next;
        }
    }

    async fn begin(&mut self) -> Result<Step, RegistryError> {
        self.sessions += 1;
        let begun = self
            .registry
            .begin_upload(self.repository, &self.what, &self.scope);
        match begun.await {
            Ok(session) => Ok(Step::On(Some(Place::new(session)))),
            Err(error) if error.is_passing() => Ok(Step::Failed(None, error, None)),
            Err(error) => Err(error),
        }
    }

    async fn step(&mut self, place: Place) -> Result<Step, RegistryError> {
        let Some(offset) = place.offset else {
            return self.ask(place).await;
        };
        let left = self.upload.size - offset;
        let chunk = CHUNK.max(place.session.min_chunk);
        if self.chunked == Some(true) && left > chunk {
            self.patch(place, offset, chunk).await
        } else {
            self.close(place, offset, left).await
        }
    }

    /// Asks the registry how far the session is.
    async fn ask(&mut self, mut place: Place) -> Result<Step, RegistryError> {
        let status = self
            .registry
            .upload_status(&mut place.session, &self.what, &self.scope);
        match status.await {
            Ok(Some(offset)) if offset <= place.given => {
                if place.given - offset > CHUNK {
                    self.in_chunks();
                }
                self.advance(offset);
                place.offset = Some(offset);
                Ok(Step::On(Some(place)))
            }
            Ok(Some(offset)) => {
                let why = format!("it has {offset} bytes of {} that were sent", place.given);
                let error = self.invalid(why);
                self.anew(place, error).await
            }
            Ok(None) => {
                let error = self.invalid("it does not know the upload any more".to_owned());
                self.anew(place, error).await
            }
            Err(error) if error.is_passing() => Ok(Step::Failed(Some(place), error, None)),
            Err(error) => Err(error),
        }
    }

    /// [`Sending::lost`] where the failure that led to the question has been counted already.
    async fn anew(&mut self, place: Place, error: RegistryError) -> Result<Step, RegistryError> {
        match self.lost(place, error).await? {
            Step::Failed(None, error, _) if self.sessions >= self.registry.http.policy.tries => {
                Err(error)
            }
            Step::Failed(..) => Ok(Step::On(None)),
            step => Ok(step),
        }
    }

    /// The session is of no use any more: another one has to be begun.
    pub(super) async fn lost(
        &mut self,
        place: Place,
        error: RegistryError,
    ) -> Result<Step, RegistryError> {
        if place.given == self.upload.size && !place.fresh {
            // The answer may be all that was lost.
            let there = self
                .registry
                .has_blob(self.repository, self.upload.digest, Purpose::Push);
            if matches!(there.await, Ok(true)) {
                return Ok(Step::Done);
            }
        }
        if place.given > CHUNK {
            self.in_chunks();
        }
        Ok(Step::Failed(None, error, None))
    }

    /// Sends PATCHes from now on, if the registry takes them.
    fn in_chunks(&mut self) {
        self.chunked = self.chunked.map(|_| true);
    }

    pub(super) fn advance(&mut self, offset: u64) {
        let Some(gained) = offset.checked_sub(self.best).filter(|gained| *gained > 0) else {
            return;
        };
        let (least, part) = WORTH_A_TRY;
        let enough = gained >= least || offset == self.upload.size;
        if enough && gained >= (self.sent - self.spent) / part {
            self.failures = 0;
        }
        (self.best, self.spent) = (offset, self.sent);
    }

    pub(super) fn invalid(&self, why: String) -> RegistryError {
        RegistryError::Protocol {
            what: self.what.clone(),
            why,
        }
    }
}

impl Place {
    fn new(session: Session) -> Self {
        Self {
            session,
            offset: Some(0),
            given: 0,
            fresh: true,
        }
    }
}
