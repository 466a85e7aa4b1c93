//! Closed-object validation with the wording of the real gateways.
//!
//! Nodes may rely on that wording: it names the member that a gateway would not accept (wire
//! protocol §5). Only the shapes that the handshake and the node's own requests need exist.

use serde_json::{Map, Value};

use crate::options::Release;

/// What a value must look like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Any JSON value.
    Any,
    /// A string of at least this many characters.
    Text(usize),
    /// A string within these bounds, in characters.
    BoundedText(usize, usize),
    /// A string or null.
    NullableText,
    /// An integer not below this.
    Integer(i64),
    /// `true` or `false`.
    Boolean,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// Exactly this string.
    Constant(&'static str),
    /// An array.
    List(&'static Shape),
    /// An object whose values all have one shape.
    Map(&'static Shape),
    /// An object with exactly these members.
    Object(&'static [Member]),
}

/// One member of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    name: &'static str,
    shape: Shape,
    required: bool,
    september_only: bool,
}

impl Member {
    /// A member that must be there.
    pub(crate) const fn required(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            required: true,
            september_only: false,
        }
    }

    /// A member that may be absent, but never null.
    pub(crate) const fn optional(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            required: false,
            september_only: false,
        }
    }

    /// A member that only the September release knows.
    pub(crate) const fn since_september(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            required: false,
            september_only: true,
        }
    }
}

/// Checks `value` and describes everything that is wrong with it, joined by `; `.
pub(crate) fn validate(release: Release, shape: Shape, value: &Value) -> Result<(), String> {
    let mut validator = Validator {
        release,
        errors: Vec::new(),
    };
    validator.check(shape, "", value);
    if validator.errors.is_empty() {
        Ok(())
    } else {
        Err(validator.errors.join("; "))
    }
}

struct Validator {
    release: Release,
    errors: Vec<String>,
}

impl Validator {
    /// Notes an error that upstream prints with a pointer, `at root` standing for the empty one.
    fn at(&mut self, pointer: &str, what: &str) {
        let place = if pointer.is_empty() { "root" } else { pointer };
        self.errors.push(format!("at {place}: {what}"));
    }

    /// Notes an error that upstream prints bare at the root.
    fn bare(&mut self, pointer: &str, what: String) {
        if pointer.is_empty() {
            self.errors.push(what);
        } else {
            self.at(pointer, &what);
        }
    }

    fn check(&mut self, shape: Shape, pointer: &str, value: &Value) {
        match (shape, value) {
            (Shape::Any, _) | (Shape::Boolean, Value::Bool(_)) => {}
            (Shape::NullableText, Value::Null | Value::String(_)) => {}
            (Shape::Text(shortest), Value::String(text)) => {
                self.length(pointer, text, shortest, usize::MAX);
            }
            (Shape::BoundedText(shortest, longest), Value::String(text)) => {
                self.length(pointer, text, shortest, longest);
            }
            (Shape::Text(_) | Shape::BoundedText(..) | Shape::NullableText, _) => {
                self.bare(pointer, "must be string".to_owned())
            }
            (Shape::Integer(least), Value::Number(number)) => {
                if number.as_f64().is_none_or(|number| number.fract() != 0.0) {
                    self.bare(pointer, "must be integer".to_owned());
                } else if number.as_f64().is_some_and(|number| number < least as f64) {
                    self.bare(pointer, format!("must be >= {least}"));
                }
            }
            (Shape::Integer(_), _) => self.bare(pointer, "must be integer".to_owned()),
            (Shape::Boolean, _) => self.bare(pointer, "must be boolean".to_owned()),
            (Shape::OneOf(allowed), value) => {
                if !value.as_str().is_some_and(|text| allowed.contains(&text)) {
                    self.bare(
                        pointer,
                        "must be equal to one of the allowed values".to_owned(),
                    );
                }
            }
            (Shape::Constant(constant), value) => {
                if value.as_str() != Some(constant) {
                    self.bare(pointer, "must be equal to constant".to_owned());
                }
            }
            (Shape::List(item), Value::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    self.check(*item, &format!("{pointer}/{index}"), value);
                }
            }
            (Shape::List(_), _) => self.bare(pointer, "must be array".to_owned()),
            (Shape::Map(item), Value::Object(object)) => {
                for (name, value) in object {
                    self.check(*item, &format!("{pointer}/{name}"), value);
                }
            }
            (Shape::Object(members), Value::Object(object)) => {
                self.object(members, pointer, object);
            }
            (Shape::Map(_) | Shape::Object(_), _) => {
                self.bare(pointer, "must be object".to_owned());
            }
        }
    }

    fn length(&mut self, pointer: &str, text: &str, shortest: usize, longest: usize) {
        // The two releases use different validators, which differ in this one word.
        let not = match self.release {
            Release::May => "NOT",
            Release::September => "not",
        };
        let length = text.chars().count();
        if length < shortest {
            self.bare(
                pointer,
                format!("must {not} have fewer than {shortest} characters"),
            );
        } else if length > longest {
            self.bare(
                pointer,
                format!("must {not} have more than {longest} characters"),
            );
        }
    }

    fn object(&mut self, members: &[Member], pointer: &str, object: &Map<String, Value>) {
        let release = self.release;
        let known = || {
            members
                .iter()
                .filter(move |member| release == Release::September || !member.september_only)
        };
        let missing = known().filter(|member| member.required && !object.contains_key(member.name));
        // September's validator stops at the first absent member of an object, May's lists all.
        let listed = match release {
            Release::May => usize::MAX,
            Release::September => 1,
        };
        for member in missing.take(listed) {
            self.bare(
                pointer,
                format!("must have required property '{}'", member.name),
            );
        }
        for name in object.keys() {
            if !known().any(|member| member.name == name) {
                self.at(pointer, &format!("unexpected property '{name}'"));
            }
        }
        for member in known() {
            if let Some(value) = object.get(member.name) {
                self.check(member.shape, &format!("{pointer}/{}", member.name), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FRAME: Shape = Shape::Object(&[
        Member::required("type", Shape::Constant("req")),
        Member::required("id", Shape::Text(1)),
        Member::required("method", Shape::Text(1)),
        Member::optional("params", Shape::Any),
        Member::since_september("traceparent", Shape::BoundedText(1, 4)),
    ]);

    #[test]
    fn every_deviation_is_named_as_upstream_names_it() {
        let cases = [
            (json!({"type":"req","id":"1","method":"m"}), None),
            (
                json!({"type":"req","id":"1","method":""}),
                Some("at /method: must not have fewer than 1 characters"),
            ),
            (
                json!({"type":"req","id":1,"method":"m"}),
                Some("at /id: must be string"),
            ),
            (
                json!({"type":"req","id":"1","method":"m","bogus":1}),
                Some("at root: unexpected property 'bogus'"),
            ),
            (
                json!({"type":"event","event":"x"}),
                Some(
                    "must have required property 'id'; at root: unexpected property 'event'; at /type: must be equal to constant",
                ),
            ),
            (
                json!({"type":"req","id":"1","method":"m","traceparent":"12345"}),
                Some("at /traceparent: must not have more than 4 characters"),
            ),
            (json!([]), Some("must be object")),
        ];
        for (frame, expected) in cases {
            let error = validate(Release::September, FRAME, &frame).err();
            assert_eq!(error.as_deref(), expected, "{frame}");
        }
    }

    #[test]
    fn the_older_release_lists_all_absent_members_and_knows_fewer() {
        let error = validate(Release::May, FRAME, &json!({"type":"event","event":"x"})).err();
        assert_eq!(
            error.as_deref(),
            Some(
                "must have required property 'id'; must have required property 'method'; at root: unexpected property 'event'; at /type: must be equal to constant"
            )
        );
        let newer = json!({"type":"req","id":"1","method":"","traceparent":"1"});
        let error = validate(Release::May, FRAME, &newer).err();
        assert_eq!(
            error.as_deref(),
            Some(
                "at root: unexpected property 'traceparent'; at /method: must NOT have fewer than 1 characters"
            )
        );
    }

    #[test]
    fn nested_values_are_pointed_at() {
        const NESTED: Shape = Shape::Object(&[
            Member::required("list", Shape::List(&Shape::Text(1))),
            Member::optional("map", Shape::Map(&Shape::Boolean)),
            Member::optional("number", Shape::Integer(1)),
            Member::optional("choice", Shape::OneOf(&["a"])),
            Member::optional("text", Shape::NullableText),
        ]);
        let cases = [
            (
                json!({"list":["a",""]}),
                "at /list/1: must not have fewer than 1 characters",
            ),
            (
                json!({"list":[],"map":{"camera":1}}),
                "at /map/camera: must be boolean",
            ),
            (json!({"list":[],"number":0}), "at /number: must be >= 1"),
            (
                json!({"list":[],"number":1.5}),
                "at /number: must be integer",
            ),
            (
                json!({"list":[],"choice":"b"}),
                "at /choice: must be equal to one of the allowed values",
            ),
            (json!({"list":{}}), "at /list: must be array"),
            (json!({"list":[],"text":1}), "at /text: must be string"),
        ];
        for (value, expected) in cases {
            assert_eq!(
                validate(Release::September, NESTED, &value)
                    .err()
                    .as_deref(),
                Some(expected)
            );
        }
        assert!(
            validate(
                Release::September,
                NESTED,
                &json!({"list":[],"text":null,"number":2})
            )
            .is_ok()
        );
    }
}
