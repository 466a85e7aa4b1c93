//! The glob of an allowlist pattern: `**` is any text, `*` any text without `/`, `?` one
//! character that is not `/`, everything else means itself (exec and approvals §8.1).

/// A parsed pattern.
///
/// Matching follows all ways at once instead of trying one after the other: a pattern full of
/// wildcards costs its length times that of the text, never more. Most texts fail by the literal
/// ends of the pattern, which costs next to nothing.
#[derive(Debug)]
pub(crate) struct Glob {
    /// What stands before the first wildcard.
    prefix: String,
    /// From the first wildcard to the last one; empty if there is none.
    tokens: Vec<Token>,
    /// What stands behind the last wildcard.
    suffix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`
    One,
    /// `*`
    WithinSegment,
    /// `**`
    Anything,
}

impl Glob {
    /// Parses a trimmed pattern. A leading `~` that stands alone or before a separator is
    /// `home`, taken literally even where that path holds a wildcard.
    pub(crate) fn parse(pattern: &str, home: Option<&str>) -> Self {
        let rest = pattern
            .strip_prefix('~')
            .filter(|rest| rest.is_empty() || rest.starts_with(['/', '\\']));
        let (prefix, rest) = match (home, rest) {
            (Some(home), Some(rest)) => (home, rest),
            _ => ("", pattern),
        };
        let mut prefix = prefix.to_owned();
        let mut tokens: Vec<Token> = Vec::new();
        let mut suffix = String::new();
        let mut rest = rest.chars().peekable();
        while let Some(char) = rest.next() {
            let token = match char {
                '*' if rest.next_if_eq(&'*').is_some() => Token::Anything,
                '*' => Token::WithinSegment,
                '?' => Token::One,
                literal if tokens.is_empty() => {
                    prefix.push(literal);
                    continue;
                }
                literal => {
                    suffix.push(literal);
                    continue;
                }
            };
            tokens.extend(std::mem::take(&mut suffix).chars().map(Token::Literal));
            tokens.push(token);
        }
        Self {
            prefix,
            tokens,
            suffix,
        }
    }

    /// The only text that matches, if the pattern has no wildcard.
    pub(crate) fn literal(&self) -> Option<String> {
        self.tokens.is_empty().then(|| self.prefix.clone())
    }

    /// Whether the whole text matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let middle = text
            .strip_prefix(&self.prefix)
            .and_then(|text| text.strip_suffix(&self.suffix));
        let Some(middle) = middle else {
            return false;
        };
        match self.tokens.as_slice() {
            [] => middle.is_empty(),
            [Token::Anything] => true,
            [Token::WithinSegment] => !middle.contains('/'),
            _ => self.tokens_match(middle),
        }
    }

    fn tokens_match(&self, text: &str) -> bool {
        // The numbers of leading tokens that can consume the text read so far, in order.
        let mut reached = Vec::new();
        self.reach(&mut reached, 0);
        let mut next = Vec::new();
        for char in text.chars() {
            for &position in &reached {
                match self.tokens.get(position) {
                    Some(Token::Literal(literal)) if *literal == char => {
                        self.reach(&mut next, position + 1);
                    }
                    Some(Token::One) if char != '/' => self.reach(&mut next, position + 1),
                    Some(Token::WithinSegment) if char != '/' => self.reach(&mut next, position),
                    Some(Token::Anything) => self.reach(&mut next, position),
                    Some(_) | None => {}
                }
            }
            if next.is_empty() {
                return false;
            }
            std::mem::swap(&mut reached, &mut next);
            next.clear();
        }
        reached.last() == Some(&self.tokens.len())
    }

    /// Adds a position, and those behind the wildcards that follow it and may match nothing.
    /// Positions come in order, so that what is not above the last one is there already.
    fn reach(&self, positions: &mut Vec<usize>, from: usize) {
        for position in from..=self.tokens.len() {
            if positions.last().is_none_or(|&last| last < position) {
                positions.push(position);
            }
            let token = self.tokens.get(position);
            if !matches!(token, Some(Token::WithinSegment | Token::Anything)) {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    const HOME: Option<&str> = Some("/home/op*");

    #[test]
    fn wildcards_stop_where_they_must() {
        for (pattern, text, expected) in [
            ("/usr/bin/echo", "/usr/bin/echo", true),
            ("/usr/bin/echo", "/usr/bin/echo2", false),
            ("/usr/bin/echo", "x/usr/bin/echo", false),
            ("/usr/bin/ECHO", "/usr/bin/echo", false),
            ("/usr/bin/ec.o", "/usr/bin/echo", false),
            ("/usr/bin/[e]cho", "/usr/bin/echo", false),
            ("/usr/bin/{echo,cat}", "/usr/bin/echo", false),
            ("/usr/bin/{echo,cat}", "/usr/bin/{echo,cat}", true),
            ("/usr/*", "/usr/bin/echo", false),
            ("/usr/*", "/usr/", true),
            ("/usr/*/echo", "/usr/bin/echo", true),
            ("/usr/*/echo", "/usr/local/bin/echo", false),
            ("/usr/**", "/usr/bin/echo", true),
            ("/usr/**", "/usr/", true),
            ("/usr/**", "/usr", false),
            ("/**/echo", "/usr/bin/echo", true),
            ("/**/echo", "/echo", false),
            ("**", "", true),
            ("**", "/anything\nat all", true),
            ("***", "/a/b", true),
            ("/usr?bin/echo", "/usr/bin/echo", false),
            ("/usr/bin/ech?", "/usr/bin/echo", true),
            ("/usr/bin/echo?", "/usr/bin/echo", false),
            ("/a?c", "/aüc", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("**/a*b/**c", "/x/y/a1b/z/c", true),
            ("**/a*b/**c", "/x/y/a/b/z/c", false),
            ("**a/*/b", "/a/a/x/b", true),
            ("", "", true),
            ("", "x", false),
        ] {
            let glob = Glob::parse(pattern, HOME);
            assert_eq!(glob.matches(text), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn a_tilde_is_the_home_directory_and_nothing_else() {
        for (pattern, home, text, expected) in [
            ("~/bin/x", HOME, "/home/op*/bin/x", true),
            ("~/bin/x", HOME, "/home/operator/bin/x", false),
            ("~", HOME, "/home/op*", true),
            ("~/**", HOME, "/home/op*/a/b", true),
            ("~root/x", HOME, "/home/op*root/x", false),
            ("~root/x", HOME, "~root/x", true),
            ("/a/~/x", HOME, "/a/~/x", true),
            ("~/bin/x", None, "~/bin/x", true),
            ("~/bin/x", None, "/bin/x", false),
        ] {
            let glob = Glob::parse(pattern, home);
            assert_eq!(glob.matches(text), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn a_pattern_of_nothing_but_wildcards_costs_no_more_than_its_length_times_the_text() {
        // Backtracking would need more than 10^50 steps for either of these.
        let text = "a".repeat(2_000);
        let pattern = "*a".repeat(300) + "b";
        assert!(!Glob::parse(&pattern, None).matches(&text));
        let pattern = "**a*".repeat(300) + "/";
        assert!(!Glob::parse(&pattern, None).matches(&text));
    }
}
