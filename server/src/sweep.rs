//! Freeing what nobody will ask for again: uploads without a session, and sessions that have expired.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::app::OpenError;
use crate::error::Error;
use crate::meta::now;

/// How often expired sessions are looked for.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Sessions ended in one go.
const BATCH: usize = 100;

/// At start: removes staged files that no session names. A crash leaves them between the end of a
/// session and the removal of its bytes, and in uploads of one request.
pub async fn orphans(app: &App) -> Result<(), OpenError> {
    let known: HashSet<_> = app.meta.upload_ids().await?.into_iter().collect();
    for id in app.blobs.staged().await? {
        if !known.contains(&id) {
            app.blobs.abort(&id).await?;
        }
    }
    Ok(())
}

/// Ends the sessions that nobody has gone on with; returns how many.
pub async fn expired(app: &App) -> Result<usize, Error> {
    let (mut ended, time) = (0, now());
    for id in app.meta.expired_uploads(time, BATCH).await? {
        // One that is being written to is alive.
        let Some(_claim) = app.claims.take(&id) else {
            continue;
        };
        // The row leaves before the bytes; unless it was gone on with since it was found.
        if app.meta.expire_upload(&id, time).await? {
            app.blobs.abort(&id).await?;
            ended += 1;
        }
    }
    Ok(ended)
}

/// Runs until it is dropped.
pub async fn forever(app: Arc<App>) {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        match expired(&app).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "freed uploads that had expired"),
            Err(error) => tracing::error!("cannot free expired uploads: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Access, Principal};
    use crate::config::Config;
    use crate::push;
    use strata_oci::Algorithm;

    #[tokio::test]
    async fn expired_uploads_are_freed_and_others_stay() {
        let dir = tempfile::tempdir().expect("tempdir");
        for (life, left) in [(Duration::from_secs(600), 1), (Duration::ZERO, 0)] {
            let mut config = Config::new(dir.path());
            config.limits.upload_life = life;
            let (app, _idle) = App::open(config).await.expect("open");
            let grant = app.gate.admit(Principal::Anonymous, &Access::Base);
            let grant = grant.expect("granted");
            let repository: strata_oci::Repository = "a".parse().expect("name");
            let id = push::start(&app, &grant, repository.clone(), Algorithm::Sha256).await;
            let id = id.expect("start");
            let bytes = futures_util::stream::iter([Ok("x".into())]);
            let body = Box::pin(bytes);
            let appended =
                push::append(Arc::clone(&app), &grant, &repository, &id, None, body).await;
            assert_eq!(appended.expect("append"), 1);
            // An expiry is a whole second, and past only when the next one has begun.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            assert_eq!(expired(&app).await.expect("sweep"), 1 - left);
            let status = push::status(&app, &grant, &repository, &id).await;
            assert_eq!(status.is_ok(), left == 1);
            assert_eq!(app.blobs.staged().await.expect("staged").len(), left);
            if left == 1 {
                push::cancel(&app, &grant, &repository, &id)
                    .await
                    .expect("cancel");
            }
            assert!(app.blobs.staged().await.expect("staged").is_empty());
        }
    }
}
