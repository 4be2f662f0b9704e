//! Text into a template. Whatever is written is understood or refused.

use std::str::FromStr;

use super::{Argument, Call, Names, Node, Template, TemplateError};

/// Nobody writes deeper ones.
const MOST_DEPTH: usize = 16;
const FUNCTIONS: [&str; 10] = [
    "json", "index", "len", "join", "lower", "upper", "println", "printf", "eq", "ne",
];

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = pieces(text)?.into_iter();
        let (nodes, end) = block(&mut pieces, 0)?;
        match end {
            Stop::Text => Ok(Self(nodes)),
            Stop::Else(_) => Err(TemplateError("unexpected {{else}}".to_owned())),
            Stop::End => Err(TemplateError("unexpected {{end}}".to_owned())),
        }
    }
}

enum Piece {
    Text(String),
    /// What is between the braces.
    Action(String),
}

/// Splits at `{{` and `}}`; `{{-` and `-}}` take white space beside them away.
fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some(at) = rest.find("{{") {
        let (mut before, after) = (&rest[..at], &rest[at + 2..]);
        let length = end_of_action(after).ok_or_else(|| TemplateError("unclosed action".into()))?;
        let mut action = &after[..length];
        if trim {
            before = before.trim_start();
        }
        if let Some(inner) = action.strip_prefix("- ") {
            (action, before) = (inner, before.trim_end());
        }
        trim = action.ends_with(" -");
        action = action.strip_suffix(" -").unwrap_or(action);
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Action(action.trim().to_owned()));
        rest = &after[length + 2..];
    }
    let rest = if trim { rest.trim_start() } else { rest };
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// Where the `}}` is that is in no string.
fn end_of_action(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

/// What ended a block.
enum Stop {
    Text,
    /// With what stands behind the word.
    Else(String),
    End,
}

fn block(
    pieces: &mut std::vec::IntoIter<Piece>,
    depth: usize,
) -> Result<(Vec<Node>, Stop), TemplateError> {
    if depth > MOST_DEPTH {
        return Err(TemplateError("too deep".to_owned()));
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, rest) = action
            .split_once(char::is_whitespace)
            .unwrap_or((&action, ""));
        match word {
            "end" => return Ok((nodes, Stop::End)),
            "else" => return Ok((nodes, Stop::Else(rest.trim().to_owned()))),
            "range" | "if" => nodes.push(branch(word, rest, pieces, depth)?),
            _ => nodes.push(Node::Show(calls(&action)?)),
        }
    }
    Ok((nodes, Stop::Text))
}

/// What begins with `range` or `if`, up to its end.
fn branch(
    word: &str,
    rest: &str,
    pieces: &mut std::vec::IntoIter<Piece>,
    depth: usize,
) -> Result<Node, TemplateError> {
    let endless = || TemplateError(format!("{word} without end"));
    let (names, rest) = match word {
        "range" => names(rest)?,
        _ => (Names::default(), rest),
    };
    let calls = calls(rest)?;
    let (first, end) = block(pieces, depth + 1)?;
    let second = match end {
        Stop::End => Vec::new(),
        Stop::Else(further) if further.is_empty() => match block(pieces, depth + 1)? {
            (nodes, Stop::End) => nodes,
            _ => return Err(endless()),
        },
        Stop::Else(further) => match further.split_once(char::is_whitespace) {
            // It has no end of its own.
            Some(("if", condition)) if depth < MOST_DEPTH => {
                vec![branch("if", condition, pieces, depth + 1)?]
            }
            _ => return Err(TemplateError(format!("else {further:?} is not understood"))),
        },
        Stop::Text => return Err(endless()),
    };
    Ok(match word {
        "range" => Node::Range(names, calls, first, second),
        _ => Node::If(calls, first, second),
    })
}

/// `$key, $element :=` or `$element :=` in front of what a range goes over.
fn names(text: &str) -> Result<(Names, &str), TemplateError> {
    let Some((names, rest)) = text.split_once(":=").filter(|_| text.starts_with('$')) else {
        return Ok((Names::default(), text));
    };
    let mut found = Vec::new();
    for name in names.split(',') {
        let plain = name.trim().strip_prefix('$').filter(|name| is_name(name));
        let plain = plain.ok_or_else(|| TemplateError(format!("{names:?} is not understood")))?;
        found.push(plain.to_owned());
    }
    let element = found.pop();
    let key = found.pop();
    match found.is_empty() {
        true => Ok((Names { key, element }, rest)),
        false => Err(TemplateError(format!("{names:?} is not understood"))),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn calls(text: &str) -> Result<Vec<Call>, TemplateError> {
    let words = words(text)?;
    let mut calls = Vec::new();
    for call in words.split(|word| word == "|") {
        let first = call.first().map_or("", String::as_str);
        let (function, arguments) = match FUNCTIONS.contains(&first) {
            true => (first, &call[1..]),
            false => ("", call),
        };
        let usable = match function {
            "" => calls.is_empty() && arguments.len() == 1,
            _ => !arguments.is_empty() || !calls.is_empty(),
        };
        if !usable {
            return Err(TemplateError(format!("{text:?} is not understood")));
        }
        let arguments = arguments.iter().map(|word| argument(word));
        calls.push(Call {
            function: function.to_owned(),
            arguments: arguments.collect::<Result<_, _>>()?,
        });
    }
    Ok(calls)
}

/// Words, strings with their quotes, and bars.
fn words(text: &str) -> Result<Vec<String>, TemplateError> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '|' => 1,
            '"' | '`' => {
                let mut escaped = false;
                let inner = rest.char_indices().skip(1).find(|(_, c)| {
                    let ends = *c == first && !escaped;
                    escaped = first == '"' && *c == '\\' && !escaped;
                    ends
                });
                inner
                    .ok_or_else(|| TemplateError("unterminated string".into()))?
                    .0
                    + 1
            }
            _ => {
                let stop = |c: char| c.is_whitespace() || c == '|';
                rest.find(stop).unwrap_or(rest.len())
            }
        };
        words.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

fn argument(word: &str) -> Result<Argument, TemplateError> {
    let not_understood = || TemplateError(format!("{word:?} is not understood"));
    if let Some(path) = word.strip_prefix('.') {
        if path.is_empty() {
            return Ok(Argument::Field(Vec::new()));
        }
        return fields(path).map(Argument::Field).ok_or_else(not_understood);
    }
    if let Some(variable) = word.strip_prefix('$') {
        let (name, path) = match variable.split_once('.') {
            Some((name, path)) => (name, fields(path)),
            None => (variable, Some(Vec::new())),
        };
        let path = path.filter(|_| name.is_empty() || is_name(name));
        let path = path.ok_or_else(not_understood)?;
        return Ok(Argument::Variable(name.to_owned(), path));
    }
    if word.starts_with('"') {
        // Go's strings of this kind and JSON's are the same for what people write.
        return serde_json::from_str(word)
            .map(Argument::Text)
            .map_err(|_| not_understood());
    }
    if let Some(text) = word.strip_prefix('`') {
        let text = text.strip_suffix('`').ok_or_else(not_understood)?;
        return Ok(Argument::Text(text.to_owned()));
    }
    word.parse()
        .map(Argument::Number)
        .map_err(|_| not_understood())
}

fn fields(path: &str) -> Option<Vec<String>> {
    let names: Vec<String> = path.split('.').map(str::to_owned).collect();
    names.iter().all(|name| is_name(name)).then_some(names)
}
