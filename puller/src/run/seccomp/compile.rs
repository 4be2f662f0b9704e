//! A profile made into a program of the kernel's packet filter machine (Documentation/userspace-api/seccomp_filter.rst
//! of Linux): the machine first, then the call's number by halves, then conditions on its arguments.
//!
//! Rules with conditions are asked before those without, in the profile's order; the first that holds decides.

use std::collections::{BTreeMap, BTreeSet};

use super::architecture::{self, Architecture};
use super::profile::{Action, Circumstances, Condition, Profile, Rule, Test};

/// BPF_MAXINSNS of linux/bpf_common.h.
const MOST: usize = 4096;
/// Numbers from here on are those of the x32 ABI.
const X32: u32 = 0x4000_0000;

/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_GREATER_OR_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// One instruction, as struct sock_filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jump_true: u8,
    pub(super) jump_false: u8,
    pub(super) value: u32,
}

/// What decides about one call: rules with conditions, and what happens when none holds.
type Verdict = (Vec<(Vec<Condition>, Action)>, Action);

/// Compiles a profile for a container that has these capabilities (`SYS_ADMIN`).
pub(super) fn compile(
    profile: &Profile,
    capabilities: &BTreeSet<&str>,
) -> Result<Vec<Instruction>, String> {
    let rules = profile.rules.iter();
    let rules: Vec<&Rule> = rules
        .filter(|rule| applies_here(rule, capabilities))
        .collect();
    let mut program = Program::default();
    for architecture in architecture::NATIVE {
        program.emit(LOAD, MACHINE);
        let next = program.label();
        program.unless(IF_EQUAL, architecture.machine, next);
        program.emit(LOAD, NUMBER);
        if architecture.has_x32 {
            let below = program.label();
            program.unless(IF_GREATER_OR_EQUAL, X32, below);
            program.give(Action::Errno(libc::ENOSYS as u16));
            program.place(below);
        }
        let ranges = ranges(profile, &rules, architecture);
        program.choose(&ranges);
        program.place(next);
    }
    program.give(Action::KillProcess);
    program.finish()
}

/// Whether a rule holds for these capabilities on this machine.
pub(super) fn applies_here(rule: &Rule, capabilities: &BTreeSet<&str>) -> bool {
    applies(rule, capabilities, kernel())
}

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    version(&release).unwrap_or((0, 0))
}

fn applies(rule: &Rule, capabilities: &BTreeSet<&str>, kernel: (u32, u32)) -> bool {
    let has = |name: &String| capabilities.contains(name.strip_prefix("CAP_").unwrap_or(name));
    let here = |wanted: &Circumstances| {
        let names = architecture::NAMES;
        wanted
            .arches
            .iter()
            .any(|known| names.contains(&known.as_str()))
    };
    let new = |wanted: &str| version(wanted).is_some_and(|least| kernel >= least);
    let (included, excluded) = (&rule.includes, &rule.excludes);
    included.caps.iter().all(has)
        && (included.arches.is_empty() || here(included))
        && included.min_kernel.as_deref().is_none_or(new)
        && !excluded.caps.iter().any(has)
        && !here(excluded)
        && !excluded.min_kernel.as_deref().is_some_and(new)
}

/// The first two numbers of a kernel's version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Numbers of calls, from one to before the next, and what decides about them.
fn ranges(profile: &Profile, rules: &[&Rule], architecture: &Architecture) -> Vec<(u32, Verdict)> {
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    let mut decided: BTreeSet<u32> = BTreeSet::new();
    for rule in rules {
        for number in rule
            .names
            .iter()
            .filter_map(|name| (architecture.number)(name))
        {
            let verdict = verdicts
                .entry(number)
                .or_insert_with(|| (Vec::new(), profile.default));
            if !rule.conditions.is_empty() {
                verdict.0.push((rule.conditions.clone(), rule.action));
            } else if decided.insert(number) {
                verdict.1 = rule.action;
            }
        }
    }
    let none = || (Vec::new(), profile.default);
    let mut ranges: Vec<(u32, Verdict)> = vec![(0, none())];
    let mut add = |from: u32, verdict: Verdict| match ranges.last_mut() {
        Some((start, last)) if *start == from => *last = verdict,
        Some((_, last)) if *last == verdict => {}
        _ => ranges.push((from, verdict)),
    };
    for (number, verdict) in &verdicts {
        add(*number, verdict.clone());
        if !verdicts.contains_key(&(number + 1)) {
            add(number + 1, none());
        }
    }
    // A program that tries a call newer than the list is told that there is none, and does without it.
    if matches!(profile.default, Action::Errno(_)) {
        let newest = verdicts
            .keys()
            .next_back()
            .copied()
            .unwrap_or(0)
            .max(architecture.newest);
        add(newest + 1, (Vec::new(), Action::Errno(libc::ENOSYS as u16)));
    }
    ranges
}

#[derive(Debug, Clone, Copy)]
struct Label(usize);

/// A program that grows at its end. Every jump that leads further than the next two instructions is one of its
/// own, because a conditional one reaches no further than 255.
#[derive(Default)]
struct Program {
    instructions: Vec<Instruction>,
    /// Where each label is.
    labels: Vec<Option<usize>>,
    /// Unconditional jumps by their place.
    jumps: Vec<(usize, Label)>,
}

impl Program {
    fn emit(&mut self, code: u16, value: u32) {
        self.instructions.push(Instruction {
            code,
            jump_true: 0,
            jump_false: 0,
            value,
        });
    }

    fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.instructions.len());
    }

    fn jump(&mut self, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.emit(JUMP, 0);
    }

    /// Goes on if the comparison holds, to the label if not.
    fn unless(&mut self, code: u16, value: u32, label: Label) {
        self.branch(code, value, (1, 0), label);
    }

    /// Goes to the label if the comparison holds.
    fn when(&mut self, code: u16, value: u32, label: Label) {
        self.branch(code, value, (0, 1), label);
    }

    fn branch(&mut self, code: u16, value: u32, (jump_true, jump_false): (u8, u8), label: Label) {
        self.instructions.push(Instruction {
            code,
            jump_true,
            jump_false,
            value,
        });
        self.jump(label);
    }

    fn give(&mut self, action: Action) {
        let value = match action {
            Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
            Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Action::Trap => libc::SECCOMP_RET_TRAP,
            Action::Errno(number) => libc::SECCOMP_RET_ERRNO | u32::from(number),
            Action::Trace(number) => libc::SECCOMP_RET_TRACE | u32::from(number),
            Action::Log => libc::SECCOMP_RET_LOG,
            Action::Allow => libc::SECCOMP_RET_ALLOW,
        };
        self.emit(RETURN, value);
    }

    /// Finds the range of the number that is loaded; not empty, and it never goes on behind.
    fn choose(&mut self, ranges: &[(u32, Verdict)]) {
        match ranges {
            [] => {}
            [(_, verdict)] => self.decide(verdict),
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let above = self.label();
                self.when(IF_GREATER_OR_EQUAL, high[0].0, above);
                self.choose(low);
                self.place(above);
                self.choose(high);
            }
        }
    }

    fn decide(&mut self, (rules, otherwise): &Verdict) {
        for (conditions, action) in rules {
            let next = self.label();
            for condition in conditions {
                self.check(condition, next);
            }
            self.give(*action);
            self.place(next);
        }
        self.give(*otherwise);
    }

    /// Goes on if the condition holds, to `fails` if not.
    fn check(&mut self, condition: &Condition, fails: Label) {
        let at = ARGUMENTS + 8 * u32::from(condition.argument);
        let (low, high) = match cfg!(target_endian = "little") {
            true => (at, at + 4),
            false => (at + 4, at),
        };
        let halves = |value: u64| ((value >> 32) as u32, value as u32);
        let (value_high, value_low) = halves(condition.value);
        let holds = self.label();
        match condition.test {
            Test::Equal | Test::MaskedEqual(_) => {
                let mask = match condition.test {
                    Test::MaskedEqual(mask) => halves(mask),
                    _ => (u32::MAX, u32::MAX),
                };
                for (offset, mask, value) in [(high, mask.0, value_high), (low, mask.1, value_low)]
                {
                    self.emit(LOAD, offset);
                    self.emit(AND, mask);
                    self.unless(IF_EQUAL, value, fails);
                }
            }
            Test::NotEqual => {
                self.emit(LOAD, high);
                self.unless(IF_EQUAL, value_high, holds);
                self.emit(LOAD, low);
                self.when(IF_EQUAL, value_low, fails);
            }
            Test::Greater | Test::GreaterOrEqual => {
                let code = match condition.test {
                    Test::Greater => IF_GREATER,
                    _ => IF_GREATER_OR_EQUAL,
                };
                self.emit(LOAD, high);
                self.when(IF_GREATER, value_high, holds);
                self.unless(IF_EQUAL, value_high, fails);
                self.emit(LOAD, low);
                self.unless(code, value_low, fails);
            }
            Test::Less | Test::LessOrEqual => {
                let code = match condition.test {
                    Test::Less => IF_GREATER_OR_EQUAL,
                    _ => IF_GREATER,
                };
                self.emit(LOAD, high);
                self.when(IF_GREATER, value_high, fails);
                self.unless(IF_EQUAL, value_high, holds);
                self.emit(LOAD, low);
                self.when(code, value_low, fails);
            }
        }
        self.place(holds);
    }

    fn finish(mut self) -> Result<Vec<Instruction>, String> {
        if self.instructions.len() > MOST {
            return Err(format!(
                "seccomp profile: it is too long: {} instructions, and the kernel takes {MOST}",
                self.instructions.len()
            ));
        }
        for (from, label) in &self.jumps {
            // Labels lie behind the jumps to them.
            let to = self.labels[label.0].unwrap_or(self.instructions.len());
            self.instructions[*from].value = (to - from - 1) as u32;
        }
        Ok(self.instructions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The machine that the kernel runs these programs on.
    fn interpret(program: &[Instruction], number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = vec![number, architecture::NATIVE[0].machine, 0, 0];
        for argument in arguments {
            let (high, low) = ((argument >> 32) as u32, argument as u32);
            data.extend(match cfg!(target_endian = "little") {
                true => [low, high],
                false => [high, low],
            });
        }
        let (mut at, mut value) = (0, 0u32);
        loop {
            let one = program[at];
            at += 1;
            let jump =
                |holds: bool| usize::from(if holds { one.jump_true } else { one.jump_false });
            match one.code {
                LOAD => value = data[one.value as usize / 4],
                AND => value &= one.value,
                JUMP => at += one.value as usize,
                IF_EQUAL => at += jump(value == one.value),
                IF_GREATER => at += jump(value > one.value),
                IF_GREATER_OR_EQUAL => at += jump(value >= one.value),
                RETURN => return one.value,
                code => panic!("no such instruction: {code}"),
            }
        }
    }

    fn holds(condition: &Condition, arguments: [u64; 6]) -> bool {
        let argument = arguments[usize::from(condition.argument)];
        match condition.test {
            Test::NotEqual => argument != condition.value,
            Test::Less => argument < condition.value,
            Test::LessOrEqual => argument <= condition.value,
            Test::Equal => argument == condition.value,
            Test::GreaterOrEqual => argument >= condition.value,
            Test::Greater => argument > condition.value,
            Test::MaskedEqual(mask) => argument & mask == condition.value,
        }
    }

    fn numbers() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..4u64,
            Just(u64::MAX),
            Just(1 << 32),
            (0..4u64).prop_map(|low| (1 << 32) | low),
            any::<u64>(),
        ]
    }

    fn conditions() -> impl Strategy<Value = Condition> {
        let tests = prop_oneof![
            Just(Test::NotEqual),
            Just(Test::Less),
            Just(Test::LessOrEqual),
            Just(Test::Equal),
            Just(Test::GreaterOrEqual),
            Just(Test::Greater),
            numbers().prop_map(Test::MaskedEqual),
        ];
        (0..6u8, tests, numbers()).prop_map(|(argument, test, value)| Condition {
            argument,
            test,
            value,
        })
    }

    const NAMES: [&str; 8] = [
        "read", "write", "close", "openat", "ioctl", "kill", "mmap", "statx",
    ];

    fn rules() -> impl Strategy<Value = Rule> {
        let names = proptest::sample::subsequence(NAMES.to_vec(), 1..4);
        let conditions = proptest::collection::vec(conditions(), 0..3);
        (names, conditions, 1..100u16).prop_map(|(names, conditions, errno)| Rule {
            names: names.into_iter().map(str::to_owned).collect(),
            action: Action::Errno(errno),
            conditions,
            includes: Circumstances::default(),
            excludes: Circumstances::default(),
        })
    }

    proptest! {
        #[test]
        fn the_program_decides_as_the_rules_do(
            rules in proptest::collection::vec(rules(), 0..12),
            calls in proptest::collection::vec((0..NAMES.len(), [numbers(), numbers(), numbers(), numbers(), numbers(), numbers()]), 1..24),
        ) {
            let profile = Profile { default: Action::Allow, rules };
            let program = compile(&profile, &BTreeSet::new()).expect("compiles");
            for (name, arguments) in calls {
                let about = || profile.rules.iter().filter(|rule| rule.names.iter().any(|n| n == NAMES[name]));
                let with = about().find(|rule| !rule.conditions.is_empty() && rule.conditions.iter().all(|c| holds(c, arguments)));
                let decides = with.or_else(|| about().find(|rule| rule.conditions.is_empty()));
                let expected = match decides.map(|rule| rule.action) {
                    Some(Action::Errno(errno)) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
                    _ => libc::SECCOMP_RET_ALLOW,
                };
                let number = (architecture::NATIVE[0].number)(NAMES[name]).expect("known");
                prop_assert_eq!(interpret(&program, number, arguments), expected);
            }
        }
    }

    #[test]
    fn rules_hold_for_capabilities_machines_and_kernels() {
        let rule = |includes: Circumstances, excludes: Circumstances| Rule {
            names: Vec::new(),
            action: Action::Allow,
            conditions: Vec::new(),
            includes,
            excludes,
        };
        let caps = |names: &[&str]| Circumstances {
            caps: names.iter().map(|n| (*n).to_owned()).collect(),
            ..Circumstances::default()
        };
        let least = |version: &str| Circumstances {
            min_kernel: Some(version.into()),
            ..Circumstances::default()
        };
        let arches = |name: &str| Circumstances {
            arches: vec![name.to_owned()],
            ..Circumstances::default()
        };
        let none = Circumstances::default;
        let have = BTreeSet::from(["SYS_ADMIN"]);
        let ask = |rule: Rule| applies(&rule, &have, (5, 10));
        assert!(ask(rule(none(), none())));
        assert!(ask(rule(caps(&["CAP_SYS_ADMIN"]), none())));
        assert!(!ask(rule(caps(&["CAP_SYS_ADMIN", "CAP_BPF"]), none())));
        assert!(!ask(rule(none(), caps(&["CAP_SYS_ADMIN"]))));
        assert!(ask(rule(least("4.8"), none())) && !ask(rule(least("5.11"), none())));
        assert!(!ask(rule(none(), least("4.8"))));
        assert!(
            ask(rule(arches(architecture::NAMES[0]), none())) && !ask(rule(arches("s390"), none()))
        );
    }

    #[test]
    fn a_profile_that_the_kernel_would_not_take_is_refused() {
        let condition = Condition {
            argument: 0,
            test: Test::Equal,
            value: 1,
        };
        let rule = Rule {
            names: vec!["read".into()],
            action: Action::Log,
            conditions: vec![condition],
            includes: Circumstances::default(),
            excludes: Circumstances::default(),
        };
        let profile = Profile {
            default: Action::Allow,
            rules: vec![rule; 1000],
        };
        let refused = compile(&profile, &BTreeSet::new()).expect_err("too long");
        assert!(refused.contains("too long"), "{refused}");
    }
}
