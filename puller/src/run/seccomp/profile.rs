//! Profiles as docker and podman read them: a JSON object with a default action and rules by name, which hold for
//! some capabilities and machines (docs.docker.com, "Seccomp security profiles for Docker"; runtime-spec,
//! config-linux.md, "Seccomp").

use serde::Deserialize;
use serde_json::{Value, json};

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// The process is killed.
    KillProcess,
    /// The thread is.
    KillThread,
    /// It gets SIGSYS.
    Trap,
    /// The call fails.
    Errno(u16),
    /// A tracer is asked.
    Trace(u16),
    /// It is made, and the kernel logs it.
    Log,
    /// It is made.
    Allow,
}

/// One condition on an argument, all of whose 64 bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which, 0 to 5.
    pub(super) argument: u8,
    /// How it is compared.
    pub(super) test: Test,
    /// With what.
    pub(super) value: u64,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Equal in the bits of this mask.
    MaskedEqual(u64),
}

/// When a rule is there at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Circumstances {
    /// Capabilities, `CAP_SYS_ADMIN`: all of them for a rule to be included, one for it to be excluded.
    pub(super) caps: Vec<String>,
    /// Machines in Go's words; one of them.
    pub(super) arches: Vec<String>,
    /// The least version of the kernel, `4.8`.
    pub(super) min_kernel: Option<String>,
}

/// One rule: what happens to some calls, if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) action: Action,
    pub(super) conditions: Vec<Condition>,
    pub(super) includes: Circumstances,
    pub(super) excludes: Circumstances,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// What happens to what no rule is about.
    pub(super) default: Action,
    pub(super) rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    /// The form before docker 1.12.
    name: Option<String>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Circumstances>,
    #[serde(default)]
    excludes: Option<Circumstances>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

impl Profile {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let document: Document = serde_json::from_str(text)
            .map_err(|error| format!("not a seccomp profile: {error}"))?;
        let default = action(&document.default_action, document.default_errno_ret)?;
        let mut rules = Vec::new();
        for entry in document.syscalls.unwrap_or_default() {
            let mut names = entry.names;
            names.extend(entry.name);
            let action = action(&entry.action, entry.errno_ret)?;
            let conditions = entry.args.unwrap_or_default();
            let conditions = conditions
                .iter()
                .map(condition)
                .collect::<Result<Vec<_>, _>>()?;
            for conditions in alternatives(conditions) {
                rules.push(Rule {
                    names: names.clone(),
                    action,
                    conditions,
                    includes: entry.includes.clone().unwrap_or_default(),
                    excludes: entry.excludes.clone().unwrap_or_default(),
                });
            }
        }
        Ok(Self { default, rules })
    }
}

impl Profile {
    /// As a runtime wants it, with the rules that `applies` lets through.
    pub(super) fn to_runtime(&self, applies: impl Fn(&Rule) -> bool) -> Value {
        let rules = self.rules.iter().filter(|rule| applies(rule));
        let rules: Vec<Value> = rules
            .map(|rule| {
                let (action, number) = rule.action.words();
                let mut value = json!({ "names": rule.names, "action": action });
                if let Some(number) = number {
                    value["errnoRet"] = json!(number);
                }
                if !rule.conditions.is_empty() {
                    let conditions = rule.conditions.iter().map(|one| one.to_runtime());
                    value["args"] = json!(conditions.collect::<Vec<_>>());
                }
                value
            })
            .collect();
        let (action, number) = self.default.words();
        let mut value = json!({ "defaultAction": action, "syscalls": rules });
        if let Some(number) = number {
            value["defaultErrnoRet"] = json!(number);
        }
        value["architectures"] = json!(super::architecture::LIBSECCOMP);
        value
    }
}

impl Action {
    fn words(self) -> (&'static str, Option<u16>) {
        match self {
            Self::KillProcess => ("SCMP_ACT_KILL_PROCESS", None),
            Self::KillThread => ("SCMP_ACT_KILL_THREAD", None),
            Self::Trap => ("SCMP_ACT_TRAP", None),
            Self::Errno(number) => ("SCMP_ACT_ERRNO", Some(number)),
            Self::Trace(number) => ("SCMP_ACT_TRACE", Some(number)),
            Self::Log => ("SCMP_ACT_LOG", None),
            Self::Allow => ("SCMP_ACT_ALLOW", None),
        }
    }
}

impl Condition {
    fn to_runtime(self) -> Value {
        let (word, value, second) = match self.test {
            Test::NotEqual => ("SCMP_CMP_NE", self.value, 0),
            Test::Less => ("SCMP_CMP_LT", self.value, 0),
            Test::LessOrEqual => ("SCMP_CMP_LE", self.value, 0),
            Test::Equal => ("SCMP_CMP_EQ", self.value, 0),
            Test::GreaterOrEqual => ("SCMP_CMP_GE", self.value, 0),
            Test::Greater => ("SCMP_CMP_GT", self.value, 0),
            Test::MaskedEqual(mask) => ("SCMP_CMP_MASKED_EQ", mask, self.value),
        };
        json!({ "index": self.argument, "op": word, "value": value, "valueTwo": second })
    }
}

/// Conditions on different arguments must all hold; of several on one argument, each is a rule of its own, as runc
/// has it.
fn alternatives(conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    let mut seen = [false; 6];
    let twice = conditions.iter().any(|condition| {
        let seen = &mut seen[usize::from(condition.argument)];
        std::mem::replace(seen, true)
    });
    match twice {
        true => conditions.into_iter().map(|one| vec![one]).collect(),
        false => vec![conditions],
    }
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        // Greater numbers the kernel itself takes for the greatest.
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(libc::EPERM as u16).min(4095)),
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(libc::EPERM as u16)),
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_NOTIFY" => {
            return Err(
                "seccomp profile: SCMP_ACT_NOTIFY needs a listener, and there is none".into(),
            );
        }
        other => return Err(format!("seccomp profile: action {other:?} is unknown")),
    })
}

fn condition(argument: &Argument) -> Result<Condition, String> {
    if argument.index > 5 {
        return Err(format!(
            "seccomp profile: there is no argument {}: a system call has six, 0 to 5",
            argument.index
        ));
    }
    let (test, value) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (Test::NotEqual, argument.value),
        "SCMP_CMP_LT" => (Test::Less, argument.value),
        "SCMP_CMP_LE" => (Test::LessOrEqual, argument.value),
        "SCMP_CMP_EQ" => (Test::Equal, argument.value),
        "SCMP_CMP_GE" => (Test::GreaterOrEqual, argument.value),
        "SCMP_CMP_GT" => (Test::Greater, argument.value),
        "SCMP_CMP_MASKED_EQ" => (Test::MaskedEqual(argument.value), argument.value_two),
        other => return Err(format!("seccomp profile: comparison {other:?} is unknown")),
    };
    Ok(Condition {
        argument: argument.index,
        test,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_format_is_read() {
        let text = r#"{ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "archMap": [{"architecture": "SCMP_ARCH_X86_64"}],
            "syscalls": [
              { "names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {}, "excludes": {} },
              { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }],
                "excludes": { "caps": ["CAP_SYS_ADMIN"], "arches": ["s390"] } },
              { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] } ] }"#;
        let profile = Profile::parse(text).expect("reads");
        assert_eq!(profile.default, Action::Errno(38));
        assert_eq!(profile.rules.len(), 4);
        assert_eq!(profile.rules[0].names, ["read", "write"]);
        let clone = Condition {
            argument: 0,
            test: Test::MaskedEqual(2_114_060_288),
            value: 0,
        };
        assert_eq!(profile.rules[1].conditions, [clone]);
        assert_eq!(profile.rules[1].excludes.caps, ["CAP_SYS_ADMIN"]);
        assert_eq!(
            (
                profile.rules[2].conditions.len(),
                profile.rules[3].conditions.len()
            ),
            (1, 1)
        );
        let again = profile.to_runtime(|_| true);
        let again = Profile::parse(&again.to_string()).expect("reads");
        assert_eq!(
            (again.default, &again.rules[1].conditions),
            (profile.default, &profile.rules[1].conditions)
        );
        for bad in [
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_NOTIFY"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"op":"EQ"}]}]}"#,
        ] {
            assert!(Profile::parse(bad).is_err(), "{bad}");
        }
    }
}
