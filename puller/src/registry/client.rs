//! HTTP clients, one for each kind of address: with the certificates that it needs, and to foreign hosts with a resolver
//! that does not lead where a registry may not lead.
//!
//! Loading the machine's certificates takes longer than a whole exchange with a registry on this machine, so each client is
//! made when its first request is sent.

use std::path::Path;
use std::sync::PoisonError;

use reqwest::{Certificate, Client, ClientBuilder, Identity, Url};
use zeroize::Zeroizing;

use super::RegistryError;
use super::error::chain;
use super::http::{Http, authority};
use super::redirect::{self, Guarded, Zone};
use crate::config::target::TlsFiles;

impl Http {
    /// Where the registry itself is; where its name has several addresses, the most public.
    pub(super) async fn zone(&self) -> Zone {
        let find = async || {
            if let Some(zone) = redirect::literal_zone(&self.reach.base) {
                return zone;
            }
            let host = self.reach.base.host_str().unwrap_or_default();
            let Ok(addresses) = tokio::net::lookup_host((host, 0)).await else {
                return Zone::Public;
            };
            let zones: Vec<Zone> = addresses.map(|a| redirect::zone(a.ip())).collect();
            let all = |zone| !zones.is_empty() && zones.iter().all(|z| *z == zone);
            if all(Zone::Loopback) {
                Zone::Loopback
            } else if zones.contains(&Zone::Public) || zones.is_empty() {
                Zone::Public
            } else {
                Zone::Private
            }
        };
        *self.zone.get_or_init(find).await
    }

    /// The client for an address: the registry's, or one that sends what others may see and goes where a registry may lead.
    pub(super) async fn client(&self, url: &Url) -> Result<Client, RegistryError> {
        let tls = url.scheme() == "https";
        let own = self.is_own(url);
        let same_host = url.host_str() == self.reach.base.host_str();
        let verify = self.reach.verify || !(own || same_host);
        let host = authority(url);
        let files = match (own, tls) {
            (true, true) => self.reach.tls.clone(),
            (false, true) => {
                TlsFiles::of_host(&self.reach.certs_dirs, &host).map_err(RegistryError::Client)?
            }
            (_, false) => TlsFiles::default(),
        };
        let alone = own || !files.is_empty() || !verify;
        let key = format!("{own} {tls} {}", if alone { host.as_str() } else { "" });
        let lock = || self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = lock().get(&key) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder()
            .user_agent(concat!("strata/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.timeouts.connect)
            .tcp_nodelay(true)
            // Where HTTP/2 is offered, a large blob is not held back by a small window (RFC 9113, 6.9.2).
            .http2_adaptive_window(true)
            .referer(false);
        if !tls {
            // No certificate is needed, so none is loaded; https never goes through this client.
            builder = builder.tls_certs_only([]);
        } else if !verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        builder = certificates(builder, &files)?;
        if redirect::literal_zone(url) == Some(Zone::Loopback) {
            builder = builder.no_proxy();
        }
        if !own {
            let from = self.zone().await;
            builder = builder.dns_resolver(Guarded { from });
        }
        let made = builder
            .build()
            .map_err(|error| RegistryError::Client(chain(&error)))?;
        Ok(lock().entry(key).or_insert(made).clone())
    }
}

/// Trusts and shows the certificates in these files besides the machine's own.
fn certificates(builder: ClientBuilder, files: &TlsFiles) -> Result<ClientBuilder, RegistryError> {
    let read = |path: &Path| {
        let read = std::fs::read(path);
        read.map_err(|error| RegistryError::Client(format!("{}: {error}", path.display())))
    };
    let unfit = |path: &Path, error: reqwest::Error| {
        RegistryError::Client(format!("{}: {}", path.display(), chain(&error)))
    };
    let mut builder = builder;
    for path in &files.ca {
        let bundle = Certificate::from_pem_bundle(&read(path)?);
        builder = builder.tls_certs_merge(bundle.map_err(|error| unfit(path, error))?);
    }
    if let (Some(cert), Some(key)) = (&files.cert, &files.key) {
        let mut pem = Zeroizing::new(read(cert)?);
        if key != cert {
            pem.push(b'\n');
            pem.extend_from_slice(&Zeroizing::new(read(key)?));
        }
        let identity = Identity::from_pem(&pem).map_err(|error| unfit(cert, error))?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}
