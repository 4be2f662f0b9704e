//! What people write behind docker's `--format`.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn made(template: &str) -> Result<String, TemplateError> {
    let value = json!({
        "Id": "abc",
        "State": { "Status": "running", "Running": true, "Pid": 7, "Error": "" },
        "Config": { "Env": ["A=1", "B=2"], "Labels": { "a.b": "x y" } },
        "Mounts": [],
        "None": null,
    });
    template.parse::<Template>()?.render(&value)
}

#[test]
fn fields_functions_and_blocks_give_what_docker_gives() {
    for (template, text) in [
        ("plain", "plain"),
        ("{{.State.Status}}", "running"),
        ("{{ .Id }}:{{.State.Pid}} {{.State.Running}}", "abc:7 true"),
        ("{{json .State.Status}}", "\"running\""),
        ("{{.Config.Env | json}}", "[\"A=1\",\"B=2\"]"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a.b:x y]"),
        ("{{index .Config.Labels \"a.b\"}}", "x y"),
        ("{{index .Config.Labels \"none\"}}", "<no value>"),
        ("{{index .Config.Env 1}}", "B=2"),
        ("{{len .Config.Env}}{{len .None}}", "20"),
        ("{{join .Config.Env \", \"}}", "A=1, B=2"),
        (
            "{{upper .State.Status}}{{.Id | upper | lower}}",
            "RUNNINGabc",
        ),
        ("{{range .Config.Env}}[{{.}}]{{end}}", "[A=1][B=2]"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        ("{{range .Mounts}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Error}}bad{{end}}", ""),
        ("a {{- if .Mounts -}} b {{- end}} c", "a c"),
        ("{{\"}}\"}}{{`\\t`}}", "}}\\t"),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "a.b=x y;",
        ),
        (
            "{{range $i, $e := .Config.Env}}{{$i}}{{$e}} {{end}}",
            "0A=1 1B=2 ",
        ),
        (
            "{{range $e := .Config.Env}}{{$.Id}}{{$e}}{{end}}",
            "abcA=1abcB=2",
        ),
        ("{{printf \"%s has %d%%\" .Id .State.Pid}}", "abc has 7%"),
        (
            "{{printf \"[%5s|%-5s|%q]\" .Id .Id .Id}}",
            "[  abc|abc  |\"abc\"]",
        ),
        ("{{if eq .State.Status \"running\"}}up{{end}}", "up"),
        (
            "{{if .State.Error}}bad{{else if ne .Id \"abc\"}}other{{else}}good{{end}}",
            "good",
        ),
    ] {
        assert_eq!(made(template).as_deref(), Ok(text), "{template}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_a_word() {
    for (template, word) in [
        ("{{.Nope}}", "Nope"),
        ("{{.State.Nope.More}}", "Nope"),
        ("{{.State", "unclosed"),
        ("{{nope .Id}}", "not understood"),
        ("{{end}}", "unexpected"),
        ("{{range .Mounts}}", "without end"),
        ("{{if .Id}}{{else}}{{else}}{{end}}", "without end"),
        ("{{index .Config.Env 9}}", "out of range"),
        ("{{upper .State.Pid}}", "upper"),
        ("{{range .Id}}{{end}}", "range"),
        ("{{}}", "not understood"),
        ("{{\"x}}", "unclosed"),
        ("{{$x}}", "no variable"),
        (
            "{{range $a, $b, $c := .Config.Env}}{{end}}",
            "not understood",
        ),
        ("{{range $k := .Config.Env}}{{end}}{{$k}}", "no variable"),
        ("{{if .Id}}{{else with .Id}}{{end}}", "not understood"),
        ("{{printf \"%s\"}}", "no value"),
        ("{{printf \"x\" .Id}}", "too many"),
        ("{{printf \"%d\" .Id}}", "printf"),
    ] {
        let error = made(template).expect_err(template).to_string();
        assert!(error.contains(word), "{template}: {error}");
    }
}

proptest! {
    #[test]
    fn whatever_is_written_is_understood_or_refused(
        text in "(\\{\\{|\\}\\}|[ .|\"`a-z-]|json|range|if|else|end|\\$k|:=|printf|%|\\PC){0,30}",
    ) {
        let _ = made(&text);
        let plain = !text.contains("{{");
        prop_assert!(!plain || made(&text).as_deref() == Ok(text.as_str()));
    }
}
