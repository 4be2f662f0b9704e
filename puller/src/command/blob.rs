//! `strata blob`: a blob's bytes, proved.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use strata::registry::{BlobStream, RegistryError};
use strata_oci::verify::Verifier;
use strata_oci::{Descriptor, Digest};

use super::output::Out;
use crate::command::remote::Remote;
use crate::printer;
use crate::transport::{TransportArgs, until_interrupted};

/// Fetch a blob and prove it: to standard output, or to a file that appears only when it is whole
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file to write; without it the bytes go to standard output and the exit code says whether
    /// they were right
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    transport: TransportArgs,
    /// [HOST[:PORT]/]NAME@DIGEST
    #[arg(value_name = "REPOSITORY@DIGEST")]
    reference: String,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let remote = Remote::new(&args.reference, &args.transport)?;
    let digest: Digest = remote
        .selector
        .parse()
        .ok()
        .with_context(|| format!("{:?} names no blob: expected NAME@DIGEST", args.reference))?;
    let work = async {
        let size = remote.registry.blob_size(&remote.repository, &digest);
        let size = size.await?.ok_or_else(|| RegistryError::NotFound {
            what: format!("blob {}", remote.full),
            message: String::new(),
        })?;
        let blob = Descriptor::new("application/octet-stream", digest.clone(), size);
        match &args.output {
            Some(file) => save(&remote, &blob, file).await,
            None => pass(&remote, &blob, printer::bytes).await,
        }
    };
    match until_interrupted(work)? {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(code) => Ok(code),
    }
}

/// Gives out the bytes until the taker has enough.
async fn pass(
    remote: &Remote,
    blob: &Descriptor,
    mut take: impl FnMut(&[u8]) -> Result<bool>,
) -> Result<()> {
    let wrong = || format!("blob {}", remote.full);
    let mut stream = BlobStream::new(remote.registry.clone(), &remote.repository, blob, 0);
    let mut verifier = Verifier::new(blob.digest.clone(), blob.size);
    while let Some(chunk) = stream.next().await? {
        verifier.update(&chunk).with_context(wrong)?;
        if !take(&chunk)? {
            return Ok(());
        }
    }
    verifier.finish().with_context(wrong)
}

async fn save(remote: &Remote, blob: &Descriptor, file: &Path) -> Result<()> {
    let writing = || format!("writing {}", file.display());
    let mut out = Out::open(file).with_context(writing)?;
    pass(remote, blob, |bytes| {
        out.write_all(bytes).with_context(writing)?;
        Ok(true)
    })
    .await?;
    out.finish().with_context(writing)
}
