//! JSON as a JavaScript engine has it, written as plainly as can be: a tree from a text
//! (`JSON.parse`), and a text from a tree (`JSON.stringify`), with the two intended differences of
//! `protocol::json` (integers stay exact, keys that look like indices keep their place).

/// A value. Strings are UTF-16, because JavaScript's are.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As it is spelled.
    Number(String),
    Text(Vec<u16>),
    Array(Vec<Value>),
    Object(Vec<(Vec<u16>, Value)>),
}

/// Reads a whole text; `None`: it is no JSON, or nested deeper than `depth_max`.
pub fn parse(text: &str, depth_max: usize) -> Option<Value> {
    let mut reader = Reader { rest: text.chars().collect(), at: 0 };
    let value = reader.value(depth_max)?;
    reader.space();
    (reader.at == reader.rest.len()).then_some(value)
}

struct Reader {
    rest: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += 1;
        next
    }

    fn space(&mut self) {
        while let Some(' ' | '\t' | '\n' | '\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, text: &str) -> Option<()> {
        text.chars().all(|wanted| self.next() == Some(wanted)).then_some(())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.space();
        Some(match self.peek()? {
            'n' => self.expect("null").map(|()| Value::Null)?,
            't' => self.expect("true").map(|()| Value::Bool(true))?,
            'f' => self.expect("false").map(|()| Value::Bool(false))?,
            '"' => Value::Text(self.text()?),
            '[' => Value::Array(self.elements(depth.checked_sub(1)?)?),
            '{' => Value::Object(self.members(depth.checked_sub(1)?)?),
            _ => Value::Number(self.number()?),
        })
    }

    fn elements(&mut self, depth: usize) -> Option<Vec<Value>> {
        let mut elements = Vec::new();
        self.at += 1;
        self.space();
        if self.peek() == Some(']') {
            self.at += 1;
            return Some(elements);
        }
        loop {
            elements.push(self.value(depth)?);
            self.space();
            match self.next()? {
                ',' => {}
                ']' => return Some(elements),
                _ => return None,
            }
        }
    }

    fn members(&mut self, depth: usize) -> Option<Vec<(Vec<u16>, Value)>> {
        let mut members: Vec<(Vec<u16>, Value)> = Vec::new();
        self.at += 1;
        self.space();
        if self.peek() == Some('}') {
            self.at += 1;
            return Some(members);
        }
        loop {
            self.space();
            let key = self.text()?;
            self.space();
            self.expect(":")?;
            let value = self.value(depth)?;
            match members.iter_mut().find(|(known, _)| *known == key) {
                Some((_, first)) => *first = value,
                None => members.push((key, value)),
            }
            self.space();
            match self.next()? {
                ',' => {}
                '}' => return Some(members),
                _ => return None,
            }
        }
    }

    fn text(&mut self) -> Option<Vec<u16>> {
        let mut text = Vec::new();
        self.expect("\"")?;
        loop {
            match self.next()? {
                '"' => return Some(text),
                '\\' => match self.next()? {
                    'b' => text.push(8),
                    'f' => text.push(12),
                    'n' => text.push(10),
                    'r' => text.push(13),
                    't' => text.push(9),
                    'u' => {
                        let digit = |this: &mut Self| this.next()?.to_digit(16);
                        let digits = [digit(self)?, digit(self)?, digit(self)?, digit(self)?];
                        text.push(digits.iter().fold(0, |unit, digit| unit << 4 | *digit as u16));
                    }
                    char @ ('"' | '\\' | '/') => text.push(char as u16),
                    _ => return None,
                },
                control if control < ' ' => return None,
                char => text.extend_from_slice(char.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn number(&mut self) -> Option<String> {
        let start = self.at;
        let digits = |this: &mut Self| {
            let start = this.at;
            while this.peek().is_some_and(|char| char.is_ascii_digit()) {
                this.at += 1;
            }
            this.rest[start..this.at].to_vec()
        };
        self.at += usize::from(self.peek() == Some('-'));
        let whole = digits(self);
        if whole.is_empty() || whole.len() > 1 && whole[0] == '0' {
            return None;
        }
        let mut is_integer = true;
        if self.peek() == Some('.') {
            self.at += 1;
            is_integer = false;
            if digits(self).is_empty() {
                return None;
            }
        }
        if let Some('e' | 'E') = self.peek() {
            is_integer = false;
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some('+' | '-')));
            if digits(self).is_empty() {
                return None;
            }
        }
        let text: String = self.rest[start..self.at].iter().collect();
        Some(match is_integer {
            true if text == "-0" => "0".to_owned(),
            true => text,
            false => double(text.parse().ok()?),
        })
    }
}

/// ECMA-262, `Number::toString`, from the shortest digits and the exponent; what is infinite is
/// `null` in JSON.
fn double(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    if !number.is_finite() {
        return "null".to_owned();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap();
    let digits = mantissa.replace('.', "");
    // The value is 0.DIGITS times ten to the power of `point`.
    let (count, point) = (digits.len() as i32, exponent.parse::<i32>().unwrap() + 1);
    let zeros = |count: i32| "0".repeat(count as usize);
    let plain = match point {
        _ if (count..=21).contains(&point) => digits + &zeros(point - count),
        1..=21 => format!("{}.{}", &digits[..point as usize], &digits[point as usize..]),
        -5..=0 => format!("0.{}{digits}", zeros(-point)),
        _ => {
            let (first, rest) = digits.split_at(1);
            let dot = if rest.is_empty() { "" } else { "." };
            let plus = if point > 0 { "+" } else { "" };
            format!("{first}{dot}{rest}e{plus}{}", point - 1)
        }
    };
    format!("{sign}{plain}")
}

/// The text of a value.
pub fn stringify(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Number(spelled) => spelled.clone(),
        Value::Text(text) => quoted(text),
        Value::Array(elements) => {
            format!("[{}]", elements.iter().map(stringify).collect::<Vec<_>>().join(","))
        }
        Value::Object(members) => {
            let written = members.iter().map(|(key, value)| quoted(key) + ":" + &stringify(value));
            format!("{{{}}}", written.collect::<Vec<_>>().join(","))
        }
    }
}

/// ECMA-262, `QuoteJSONString`.
fn quoted(text: &[u16]) -> String {
    let mut out = String::from("\"");
    for unit in char::decode_utf16(text.iter().copied()) {
        match unit {
            Ok('\u{8}') => out.push_str("\\b"),
            Ok('\u{c}') => out.push_str("\\f"),
            Ok('\n') => out.push_str("\\n"),
            Ok('\r') => out.push_str("\\r"),
            Ok('\t') => out.push_str("\\t"),
            Ok(char @ ('"' | '\\')) => out.extend(['\\', char]),
            Ok(char) if char < ' ' => out.push_str(&format!("\\u{:04x}", char as u32)),
            Ok(char) => out.push(char),
            Err(lone) => out.push_str(&format!("\\u{:04x}", lone.unpaired_surrogate())),
        }
    }
    out + "\""
}

impl Value {
    /// A member of an object.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Value::Object(members) = self else { return None };
        let key: Vec<u16> = key.encode_utf16().collect();
        members.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// A string as UTF-8 has it: lone surrogates are U+FFFD.
    pub fn text(&self) -> Option<String> {
        let Value::Text(text) = self else { return None };
        Some(String::from_utf16_lossy(text))
    }

    /// What JavaScript takes for true.
    pub fn is_truthy(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(bool) => *bool,
            // Infinity is true, whatever JSON makes of it.
            Value::Number(spelled) => spelled != "0",
            Value::Text(text) => !text.is_empty(),
            Value::Array(_) | Value::Object(_) => true,
        }
    }
}
