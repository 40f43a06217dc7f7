//! Finds the Jinja tags of a text without understanding them: enough to cut macros out of a file and to know where an
//! expression's output came from.

/// What a tag does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagKind {
    /// `{{ … }}`
    Expression,
    /// `{% … %}`
    Block,
    /// `{# … #}`
    Comment,
}

/// One tag: byte offsets of its first character and behind its last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tag<'a> {
    pub(crate) kind: TagKind,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// What stands between the delimiters, whitespace control and blanks removed.
    pub(crate) inner: &'a str,
}

impl<'a> Tag<'a> {
    /// The first word of a block, such as `macro`.
    pub(crate) fn word(&self) -> &'a str {
        let end = self.inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.inner.len());
        self.inner.get(..end).unwrap_or_default()
    }

    /// The word behind the first one.
    pub(crate) fn second_word(&self) -> &'a str {
        let rest = self.inner.get(self.word().len()..).unwrap_or_default().trim_start();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }
}

/// All tags in order, up to the first that does not end.
pub(crate) fn tags(text: &str) -> Vec<Tag<'_>> {
    let mut tags = Vec::new();
    let mut at = 0;
    let mut raw = false;
    while let Some(tag) = next_tag(text, at, raw) {
        at = tag.end;
        if tag.kind == TagKind::Block {
            raw = match tag.word() {
                "raw" => true,
                "endraw" => false,
                _ => raw,
            };
        }
        tags.push(tag);
    }
    tags
}

/// Whether a text has any Jinja in it.
pub(crate) fn has_jinja(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

fn next_tag(text: &str, from: usize, raw: bool) -> Option<Tag<'_>> {
    let bytes = text.as_bytes();
    let mut at = from;
    loop {
        at += text.get(at..)?.find('{')?;
        let kind = match bytes.get(at + 1) {
            Some(b'{') if !raw => TagKind::Expression,
            Some(b'#') if !raw => TagKind::Comment,
            Some(b'%') => TagKind::Block,
            _ => {
                at += 1;
                continue;
            }
        };
        let end = tag_end(bytes, at + 2, kind)?;
        let inner = text.get(at + 2..end - 2)?;
        let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
        let inner = inner.strip_suffix(['-', '+']).unwrap_or(inner).trim();
        let tag = Tag { kind, start: at, end, inner };
        if raw && tag.word() != "endraw" {
            at += 1;
            continue;
        }
        return Some(tag);
    }
}

/// The offset behind the delimiter that closes a tag: strings and nested braces are skipped.
fn tag_end(bytes: &[u8], from: usize, kind: TagKind) -> Option<usize> {
    let close = match kind {
        TagKind::Expression => b'}',
        TagKind::Block => b'%',
        TagKind::Comment => b'#',
    };
    let mut at = from;
    let mut depth = 0_usize;
    let mut quote = None;
    while at < bytes.len() {
        let byte = bytes[at];
        match (kind, quote) {
            (TagKind::Comment, _) => {}
            (_, Some(_)) if byte == b'\\' => at += 1,
            (_, Some(open)) if byte == open => quote = None,
            (_, Some(_)) => {}
            (_, None) if matches!(byte, b'\'' | b'"') => quote = Some(byte),
            (_, None) if byte == b'{' => depth += 1,
            (_, None) if byte == b'}' && depth > 0 => {
                depth -= 1;
                at += 1;
                continue;
            }
            _ => {}
        }
        if quote.is_none() && byte == close && bytes.get(at + 1) == Some(&b'}') {
            return Some(at + 2);
        }
        at += 1;
    }
    None
}
