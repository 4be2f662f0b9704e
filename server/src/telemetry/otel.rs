//! Traces, for a collector that takes OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/>): a span for each
//! request, below the client's own if it says so (W3C Trace Context). Only with the build feature `otel`.
//!
//! A span is made when its request has ended, from what the exchange knows by then, so that a request
//! under way costs nothing more. A thread of the SDK sends them in batches; its queue is bounded.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span, SpanBuilder, SpanKind, Status, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use super::exchange::Exchange;
use super::line::Text;

/// How long the end waits for the collector to take what is left.
const PATIENCE: Duration = Duration::from_secs(5);

/// Of the process, as is the log.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// The traces of this process; when it is dropped, what waits is sent.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends a span for each request to the collector at `endpoint`, such as `http://127.0.0.1:4318`. Not from
    /// within the asynchronous runtime: the SDK's client has one of its own.
    ///
    /// # Errors
    /// What the SDK says of the endpoint.
    pub fn start(endpoint: &str) -> Result<Self, String> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url(endpoint))
            .build()
            .map_err(|error| format!("cannot send traces to {endpoint}: {error}"))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder()
            .with_service_name("stratad")
            .with_attribute(version);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        TRACER.get_or_init(|| provider.tracer("stratad"));
        Ok(Self(provider))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(PATIENCE) {
            tracing::warn!("traces were lost at the end: {error}");
        }
    }
}

/// The collector's path for traces, unless it was given.
fn url(endpoint: &str) -> String {
    const PATH: &str = "/v1/traces";
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.ends_with(PATH) {
        endpoint.to_owned()
    } else {
        format!("{endpoint}{PATH}")
    }
}

/// Makes the span of a request that has ended.
pub(super) fn span(exchange: &Exchange, took: Duration) {
    let Some(tracer) = TRACER.get() else {
        return;
    };
    let headers = Headers(&exchange.parts.headers);
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
    let ended = SystemTime::now();
    let name = format!("{} {}", exchange.parts.method, exchange.noun.as_str());
    let mut span = SpanBuilder::from_name(name)
        .with_kind(SpanKind::Server)
        .with_start_time(ended.checked_sub(took).unwrap_or(ended))
        .with_attributes(attributes(exchange))
        .start_with_context(tracer, &parent);
    if exchange.status() >= 500 {
        span.set_status(Status::error("the registry failed"));
    }
    span.end_with_timestamp(ended);
}

/// What is known of it, by the names of the semantic conventions
/// (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>). Nothing that the log would not say.
fn attributes(exchange: &Exchange) -> Vec<KeyValue> {
    let text = Text::of(exchange);
    let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut all = vec![
        KeyValue::new("http.request.method", text.method),
        KeyValue::new("http.route", exchange.noun.as_str()),
        KeyValue::new("http.response.status_code", i64::from(exchange.status())),
        KeyValue::new("http.request.body.size", size(exchange.received())),
        KeyValue::new("http.response.body.size", size(exchange.sent())),
        KeyValue::new("stratad.aborted", !exchange.is_whole()),
    ];
    let id = exchange.id.to_str().ok().map(str::to_owned);
    let code = exchange.refused.as_ref().map(|r| r.code.to_owned());
    for (name, value) in [
        ("stratad.repository", text.repository),
        ("stratad.reference", text.reference),
        ("stratad.request_id", id),
        ("error.type", code),
        ("client.address", text.remote),
        ("user_agent.original", text.agent),
    ] {
        all.extend(value.map(|value| KeyValue::new(name, value)));
    }
    all
}

/// Headers, as the propagator reads them.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, Noun};
    use http::header::USER_AGENT;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;

    #[test]
    fn the_path_is_added_once() {
        for given in ["http://a:4318", "http://a:4318/", "http://a:4318/v1/traces"] {
            assert_eq!(url(given), "http://a:4318/v1/traces");
        }
    }

    /// Takes one export; its path and body.
    fn collect(listener: &TcpListener) -> (String, Vec<u8>) {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut reader = BufReader::new(stream.try_clone().expect("clone"));
        let mut first = String::new();
        reader.read_line(&mut first).expect("line");
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("line");
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("length");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("body");
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).expect("write");
        (first, body)
    }

    #[test]
    fn a_request_becomes_a_span_below_its_clients_and_the_end_sends_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let collector = std::thread::spawn(move || collect(&listener));
        let traces = Traces::start(&format!("http://{address}")).expect("start");
        let trace: [u8; 16] = std::array::from_fn(|at| at as u8 + 1);
        let hex: String = trace.iter().map(|byte| format!("{byte:02x}")).collect();
        let (parts, ()) = http::Request::get("/v2/team/app/manifests/v1?token=secret")
            .header("traceparent", format!("00-{hex}-a1b2c3d4e5f60718-01"))
            .header("authorization", "Basic secret")
            .header(USER_AGENT, "agent/1")
            .body(())
            .expect("request")
            .into_parts();
        drop(Exchange::begin(
            &Arc::new(Metrics::default()),
            parts,
            Noun::Manifest,
        ));
        drop(traces);
        let (first, body) = collector.join().expect("collector");
        assert_eq!(first.trim(), "POST /v1/traces HTTP/1.1");
        let has = |bytes: &[u8]| body.windows(bytes.len()).any(|window| window == bytes);
        let parent = [0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x07, 0x18];
        assert!(has(&trace) && has(&parent), "the client's trace");
        for text in ["stratad", "GET manifest", "team/app", "agent/1"] {
            assert!(has(text.as_bytes()), "{text}");
        }
        assert!(!has(b"secret"));
    }
}
