//! Words of an instruction as a Dockerfile has them (docs.docker.com, "Dockerfile reference", "Environment replacement"
//! and "Escape"): blanks divide, quotes and backslashes keep together, variables are replaced.

use super::instruction::InstructionError;

/// Where variables have their values.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How deep `${A:-${B:-…}}` may go.
const DEPTH: u32 = 20;

/// The words of a text, without quotes and with variables replaced.
pub(super) fn words(text: &str, lookup: Lookup) -> Result<Vec<String>, InstructionError> {
    let mut reader = Reader::new(text, lookup, 0);
    let mut words = Vec::new();
    while let Some(word) = reader.word(&|c| c.is_whitespace())? {
        words.push(word);
    }
    Ok(words)
}

/// The whole text as one word, blanks included.
pub(super) fn one(text: &str, lookup: Lookup) -> Result<String, InstructionError> {
    let word = Reader::new(text, lookup, 0).word(&|_| false)?;
    Ok(word.unwrap_or_default())
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    lookup: Lookup<'a>,
    depth: u32,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, lookup: Lookup<'a>, depth: u32) -> Self {
        Self {
            rest: text.chars().peekable(),
            lookup,
            depth,
        }
    }

    /// The next word; `None` at the end.
    fn word(&mut self, divides: &dyn Fn(char) -> bool) -> Result<Option<String>, InstructionError> {
        while self.rest.next_if(|c| divides(*c)).is_some() {}
        if self.rest.peek().is_none() {
            return Ok(None);
        }
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| !divides(*c)) {
            match c {
                '\'' => self.single(&mut word)?,
                '"' => self.double(&mut word)?,
                '$' => self.variable(&mut word)?,
                // At the very end it stands for itself.
                '\\' => word.push(self.rest.next().unwrap_or('\\')),
                c => word.push(c),
            }
        }
        Ok(Some(word))
    }

    /// To the next quote, as it stands.
    fn single(&mut self, word: &mut String) -> Result<(), InstructionError> {
        loop {
            match self.rest.next() {
                Some('\'') => return Ok(()),
                Some(c) => word.push(c),
                None => return Err(InstructionError::Quote('\'')),
            }
        }
    }

    fn double(&mut self, word: &mut String) -> Result<(), InstructionError> {
        loop {
            match self.rest.next() {
                Some('"') => return Ok(()),
                Some('$') => self.variable(word)?,
                Some('\\') => match self.rest.next() {
                    Some(c @ ('"' | '$' | '\\')) => word.push(c),
                    Some(c) => word.extend(['\\', c]),
                    None => return Err(InstructionError::Quote('"')),
                },
                Some(c) => word.push(c),
                None => return Err(InstructionError::Quote('"')),
            }
        }
    }

    /// After a `$`: `NAME`, `{NAME}`, `{NAME:-WORD}` or `{NAME:+WORD}`; else a plain `$`.
    fn variable(&mut self, word: &mut String) -> Result<(), InstructionError> {
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            match name.is_empty() {
                true => word.push('$'),
                false => word.push_str(&(self.lookup)(&name).unwrap_or_default()),
            }
            return Ok(());
        }
        let name = self.name();
        let value = (self.lookup)(&name).filter(|value| !value.is_empty());
        let bad = || InstructionError::Variable(name.chars().take(80).collect());
        if name.is_empty() {
            return Err(bad());
        }
        match self.rest.next() {
            Some('}') => word.push_str(&value.unwrap_or_default()),
            Some(':') => {
                let kind = self.rest.next();
                let inner = self.braces().ok_or_else(bad)?;
                let other = || -> Result<String, InstructionError> {
                    if self.depth >= DEPTH {
                        return Err(bad());
                    }
                    let mut reader = Reader::new(&inner, self.lookup, self.depth + 1);
                    Ok(reader.word(&|_| false)?.unwrap_or_default())
                };
                match (kind, value) {
                    (Some('-'), Some(value)) => word.push_str(&value),
                    (Some('-'), None) | (Some('+'), Some(_)) => word.push_str(&other()?),
                    (Some('+'), None) => {}
                    _ => return Err(bad()),
                }
            }
            _ => return Err(bad()),
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| {
            c.is_ascii_alphabetic() || *c == '_' || (!name.is_empty() && c.is_ascii_digit())
        }) {
            name.push(c);
        }
        name
    }

    /// To the brace that closes; `None` when there is none.
    fn braces(&mut self) -> Option<String> {
        let (mut inner, mut open) = (String::new(), 1u32);
        loop {
            let c = self.rest.next()?;
            match c {
                '{' => open += 1,
                '}' => open -= 1,
                _ => {}
            }
            if open == 0 {
                return Some(inner);
            }
            inner.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("one two".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn split(text: &str) -> Vec<String> {
        words(text, &lookup).expect(text)
    }

    #[test]
    fn blanks_divide_and_quotes_keep_together() {
        for (text, expected) in [
            ("a  b\tc", &["a", "b", "c"][..]),
            (r#"a="b c" d='e "f'"#, &["a=b c", "d=e \"f"]),
            (r"a\ b c\\d", &["a b", "c\\d"]),
            (r#""\n\"\$A""#, &["\\n\"$A"]),
            ("'' x", &["", "x"]),
            ("  ", &[]),
            ("end\\", &["end\\"]),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
        assert_eq!(one("a  'b' c", &lookup).expect("one"), "a  b c");
    }

    #[test]
    fn variables_are_replaced_but_not_in_single_quotes() {
        for (text, expected) in [
            ("x$A", "xone two"),
            ("${A}y", "one twoy"),
            ("'$A'", "$A"),
            ("\"$A\"", "one two"),
            ("\\$A", "$A"),
            ("$NONE-$", "-$"),
            ("${NONE:-d}${EMPTY:-e}${A:+f}${NONE:+g}", "def"),
            ("${NONE:-${A}}", "one two"),
            ("$1", "$1"),
        ] {
            assert_eq!(split(text), [expected], "{text}");
        }
    }

    #[test]
    fn what_does_not_end_is_refused() {
        for bad in [
            "'a", "\"a", "\"a\\", "${A", "${}", "${A:?x}", "${A:-x", "${A!}",
        ] {
            assert!(words(bad, &lookup).is_err(), "{bad}");
        }
        let deep = "${N:-".repeat(50) + &"}".repeat(50);
        assert!(words(&deep, &lookup).is_err());
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(texts in proptest::collection::vec("[ -~]{0,12}", 0..6)) {
            let quoted: Vec<String> = texts
                .iter()
                .map(|text| format!("'{}'", text.replace('\'', r#"'"'"'"#)))
                .collect();
            prop_assert_eq!(split(&quoted.join(" ")), texts);
        }

        #[test]
        fn no_text_is_too_odd(text in ".{0,60}") {
            let _ = words(&text, &lookup);
        }
    }
}
