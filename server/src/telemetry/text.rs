//! Numbers as text, in the two forms that scrapers ask for: Prometheus 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>) and OpenMetrics 1.0
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>). For us they differ in a counter's name in its TYPE
//! line, and in the end.

use std::fmt::{Display, Write};

use super::number::Histogram;

/// Which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Form {
    /// What a scraper wants that sends this Accept header.
    pub fn wanted(accept: &str) -> Self {
        // Whoever knows OpenMetrics prefers it: no scraper names it to say that it does not want it.
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The text, as it grows family by family.
#[derive(Debug)]
pub struct Exposition {
    form: Form,
    text: String,
}

/// A sample's labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// An empty one.
    pub fn new(form: Form) -> Self {
        let text = String::with_capacity(16 * 1024);
        Self { form, text }
    }

    /// The whole.
    pub fn finish(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    /// A counter without labels; `name` ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.counters(name, help, [([].as_slice(), value)]);
    }

    /// A counter for each set of labels; `name` ends in `_total`.
    pub fn counters<'a, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) {
        self.family(name, "counter", help);
        for (labels, value) in samples {
            self.sample(name, labels, value);
        }
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.gauges(name, help, [([].as_slice(), value)]);
    }

    /// A gauge for each set of labels.
    pub fn gauges<'a, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) {
        self.family(name, "gauge", help);
        for (labels, value) in samples {
            self.sample(name, labels, value);
        }
    }

    /// A histogram for each set of labels; `name` ends in `_seconds`.
    pub fn histograms<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, &'a Histogram)>,
    ) {
        self.family(name, "histogram", help);
        for (labels, histogram) in samples {
            let snapshot = histogram.snapshot();
            let mut count = 0;
            for (bound, up_to) in snapshot.buckets {
                count = up_to;
                let bound = if bound.is_finite() {
                    bound.to_string()
                } else {
                    "+Inf".to_owned()
                };
                let labels = [labels, &[("le", bound.as_str())]].concat();
                self.sample(&format!("{name}_bucket"), &labels, up_to);
            }
            self.sample(&format!("{name}_sum"), labels, snapshot.sum);
            self.sample(&format!("{name}_count"), labels, count);
        }
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let family = match (self.form, kind) {
            (Form::OpenMetrics, "counter") => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {family} {help}");
        let _ = writeln!(self.text, "# TYPE {family} {kind}");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let text = text
                .replace('\\', r"\\")
                .replace('"', "\\\"")
                .replace('\n', r"\n");
            let _ = write!(self.text, "{before}{label}=\"{text}\"");
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_form_is_written_as_its_specification_shows_it() {
        let write = |form| {
            let mut text = Exposition::new(form);
            text.counters("a_total", "Some.", [([("x", "1\"\\\n")].as_slice(), 2)]);
            text.gauge("b", "Others.", 0.5);
            text.finish()
        };
        let samples = |family: &str| {
            format!(
                "# HELP {family} Some.\n# TYPE {family} counter\na_total{{x=\"1\\\"\\\\\\n\"}} 2\n\
                 # HELP b Others.\n# TYPE b gauge\nb 0.5\n"
            )
        };
        assert_eq!(write(Form::Prometheus), samples("a_total"));
        assert_eq!(write(Form::OpenMetrics), samples("a") + "# EOF\n");
    }

    #[test]
    fn the_last_bucket_of_a_histogram_is_its_count() {
        let histogram = Histogram::new(&[500]);
        histogram.observe(Duration::from_micros(250));
        histogram.observe(Duration::from_millis(1));
        let mut text = Exposition::new(Form::Prometheus);
        text.histograms("h_seconds", "Time.", [([].as_slice(), &histogram)]);
        let expected = "# HELP h_seconds Time.\n# TYPE h_seconds histogram\n\
            h_seconds_bucket{le=\"0.0005\"} 1\nh_seconds_bucket{le=\"+Inf\"} 2\n\
            h_seconds_sum 0.00125\nh_seconds_count 2\n";
        assert_eq!(text.finish(), expected);
    }

    #[test]
    fn a_scraper_gets_the_form_that_it_knows() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3";
        assert_eq!(Form::wanted(prometheus), Form::OpenMetrics);
        assert_eq!(Form::wanted("text/plain;version=0.0.4"), Form::Prometheus);
        assert_eq!(Form::wanted(""), Form::Prometheus);
    }
}
