//! Certificates of a test's own, made by openssl(1).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::command::{run, tool};
use crate::place::Place;

/// An authority that nobody else trusts.
pub struct Authority {
    dir: PathBuf,
}

/// A certificate and its key, in PEM.
pub struct Certificate {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

const KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
];

impl Authority {
    /// Makes one in the directory `name` of `place`.
    #[track_caller]
    pub fn new(place: &Place, name: &str) -> Self {
        let dir = place.dir(name);
        let mut command = Command::new(tool("openssl"));
        command.current_dir(&dir).args(["req", "-x509"]).args(KEY);
        command.args([
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-days",
            "30",
            "-subj",
            "/CN=test authority",
        ]);
        run(&mut command).ok();
        Self { dir }
    }

    /// Its own certificate.
    pub fn cert(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A certificate for 127.0.0.1, good for servers and clients.
    #[track_caller]
    pub fn issue(&self, name: &str) -> Certificate {
        let file = |extension: &str| format!("{name}.{extension}");
        let mut request = Command::new(tool("openssl"));
        request.current_dir(&self.dir).arg("req").args(KEY);
        request.args([
            "-keyout",
            &file("key"),
            "-out",
            &file("csr"),
            "-subj",
            &format!("/CN={name}"),
        ]);
        run(&mut request).ok();
        let uses = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
        fs::write(self.dir.join(file("ext")), uses).expect("write");
        let mut sign = Command::new(tool("openssl"));
        sign.current_dir(&self.dir).args([
            "x509",
            "-req",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
        ]);
        sign.args([
            "-in",
            &file("csr"),
            "-out",
            &file("crt"),
            "-days",
            "30",
            "-extfile",
            &file("ext"),
        ]);
        run(&mut sign).ok();
        Certificate {
            cert: self.dir.join(file("crt")),
            key: self.dir.join(file("key")),
        }
    }
}
