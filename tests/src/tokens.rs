//! A token service as registries of the distribution project want one: what it gives are JWTs that are really signed
//! (RS256), good for the access that was asked for and that the user has (distribution's "Token Authentication
//! Implementation" and "OAuth2 Token Authentication").

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::command::{run, run_with_input, tool};
use crate::distribution::Distribution;
use crate::fake::{Answer, Asked, Fake, reply};
use crate::place::Place;

/// How long beyond its end Debian's docker-registry takes a token, in seconds (its `token.Leeway`).
const LEEWAY: i64 = 60;
const ISSUER: &str = "the test's token service";
const SERVICE: &str = "the test's registry";

/// One request that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The user; nobody for `""`.
    pub user: String,
    /// `password`, `refresh_token` or `none`.
    pub by: String,
    /// The scopes that were asked for, sorted.
    pub scopes: Vec<String>,
}

struct Signer {
    dir: PathBuf,
    certificate: String,
    /// Seconds for which the registry takes a token.
    life: AtomicI64,
    granted: Mutex<Vec<Granted>>,
}

/// A service that knows one user, `me` with the password `secret`, who may do all below `team/`, and lets
/// everyone pull what is below `public/`.
pub struct TokenService {
    fake: Fake,
    signer: Arc<Signer>,
}

impl TokenService {
    /// Makes a key and listens.
    #[track_caller]
    pub fn start(place: &Place) -> Self {
        let dir = place.dir("tokens");
        let mut make = Command::new(tool("openssl"));
        make.current_dir(&dir)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes"]);
        make.args(["-keyout", "key.pem", "-out", "cert.pem", "-days", "2"]);
        run(make.args(["-subj", "/CN=tokens"])).ok();
        let pem = fs::read_to_string(dir.join("cert.pem")).expect("read");
        let lines = pem.lines().filter(|line| !line.starts_with('-'));
        let signer = Arc::new(Signer {
            dir,
            certificate: lines.collect(),
            life: AtomicI64::new(300),
            granted: Mutex::default(),
        });
        let own = signer.clone();
        Self {
            fake: Fake::start(move |asked| own.answer(asked)),
            signer,
        }
    }

    /// Starts a registry that takes this service's tokens alone.
    #[track_caller]
    pub fn registry(&self, place: &Place, name: &str) -> Distribution {
        let bundle = self.signer.dir.join("cert.pem");
        let token = json!({
            "realm": format!("http://{}/token", self.address()), "service": SERVICE,
            "issuer": ISSUER, "rootcertbundle": bundle,
        });
        // JSON is YAML.
        let auth = json!({ "token": token });
        Distribution::start_with(place, name, "", &format!("auth: {auth}\n"))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.fake.address()
    }

    /// From now on the registry takes a token for this many seconds, whatever is said of it.
    pub fn set_life(&self, seconds: i64) {
        self.signer.life.store(seconds, Ordering::SeqCst);
    }

    /// What was granted since the last call, in order.
    pub fn granted(&self) -> Vec<Granted> {
        std::mem::take(&mut *self.signer.granted.lock().expect("granted"))
    }
}

/// The pairs of a query or form.
fn pairs(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let blanks = text.replace('+', " ");
        percent_decode_str(&blanks).decode_utf8_lossy().into_owned()
    };
    let split = text.split('&').filter_map(|pair| pair.split_once('='));
    split
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

impl Signer {
    fn answer(&self, asked: &Asked) -> Answer {
        let text = match asked.method.as_str() {
            "GET" => asked
                .target
                .split_once('?')
                .map_or("", |(_, q)| q)
                .to_owned(),
            "POST" => asked.body_text(),
            _ => return reply(405, &[], b""),
        };
        let pairs = pairs(&text);
        let one: HashMap<&str, &str> = pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
        let get = |name: &str| one.get(name).copied().unwrap_or_default();
        if get("service") != SERVICE {
            return reply(400, &[], b"another service");
        }
        let (user, by) = match (asked.method.as_str(), asked.header("authorization")) {
            ("GET", "Basic bWU6c2VjcmV0") => ("me", "password"),
            ("GET", "") => ("", "none"),
            ("POST", "")
                if get("grant_type") == "refresh_token"
                    && get("refresh_token") == "identity-of-me" =>
            {
                ("me", "refresh_token")
            }
            _ => {
                return reply(
                    401,
                    &[],
                    br#"{"errors":[{"code":"UNAUTHORIZED","message":"not known here"}]}"#,
                );
            }
        };
        let scopes = pairs.iter().filter(|(name, _)| name == "scope");
        let mut scopes: Vec<String> = scopes
            .flat_map(|(_, value)| value.split(' ').map(str::to_owned))
            .collect();
        scopes.sort();
        let access: Vec<Value> = scopes
            .iter()
            .filter_map(|scope| allowed(user, scope))
            .collect();
        self.granted.lock().expect("granted").push(Granted {
            user: user.to_owned(),
            by: by.to_owned(),
            scopes,
        });
        let mut answer = json!({ "token": self.sign(user, &access), "expires_in": 300 });
        if get("offline_token") == "true" && user == "me" {
            answer["refresh_token"] = json!("identity-of-me");
        }
        let kind = [("Content-Type", "application/json")];
        reply(200, &kind, answer.to_string().as_bytes())
    }

    /// A JWT (RFC 7519) that carries its certificate (RFC 7515, 4.1.6).
    fn sign(&self, user: &str, access: &[Value]) -> String {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock");
        let now = since.as_secs() as i64;
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [self.certificate] });
        let claims = json!({
            "iss": ISSUER, "aud": SERVICE, "sub": user, "access": access, "iat": now, "nbf": now - 10,
            "exp": now - LEEWAY + self.life.load(Ordering::SeqCst), "jti": format!("{:?}", since),
        });
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signed = [header, claims]
            .map(|part| encode(part.to_string().as_bytes()))
            .join(".");
        let mut command = Command::new(tool("openssl"));
        command
            .current_dir(&self.dir)
            .args(["dgst", "-sha256", "-sign", "key.pem"]);
        let signature = run_with_input(&mut command, signed.as_bytes()).ok().stdout;
        format!("{signed}.{}", encode(&signature))
    }
}

/// What of a scope (`repository:NAME:ACTION,…`) the user has.
fn allowed(user: &str, scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let has = |action: &&str| match (user, name.split('/').next()?) {
        ("me", "team") => Some(()),
        (_, "public") if *action == "pull" => Some(()),
        _ => None,
    };
    let actions: Vec<&str> = actions.split(',').filter(|a| has(a).is_some()).collect();
    Some(json!({ "type": kind, "name": name, "actions": actions }))
}
