//! The bearer token: a secret that leaves its file for the Authorization header and for nowhere else.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A secret that no Debug output shows.
pub(super) struct Token(String);

impl Token {
    /// Reads it from a file; blanks and ends of lines around it do not count.
    ///
    /// # Errors
    /// Says what is wrong with the file, nothing of what is in it.
    pub(super) fn read(file: &Path) -> Result<Token, String> {
        let wrong = |what: &dyn fmt::Display| format!("token_file {}: {what}", file.display());
        let mut text = String::new();
        let opened = File::open(file).map_err(|error| wrong(&error))?;
        opened.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| wrong(&error.kind()))?;
        let token = text.trim();
        if token.is_empty() {
            return Err(wrong(&"empty"));
        }
        if text.len() as u64 > LONGEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(&"a token is one word of visible ASCII characters, 8 KiB at most"));
        }
        Ok(Token(token.to_owned()))
    }

    /// Returns the value of the Authorization header.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Takes the secret out of a text that came from outside.
    pub(super) fn strike(&self, text: &str) -> String {
        text.replace(&self.0, "[token]")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The longest file that is read, in bytes.
const LONGEST: u64 = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "  s3cret\n").unwrap();
        let token = Token::read(&file).unwrap();
        assert_eq!(token.header(), "Bearer s3cret");
        assert_eq!(token.strike("you sent s3cret"), "you sent [token]");
        assert!(!format!("{token:?}").contains("s3cret"));
        for bad in ["", "\n", "two words", "s3cret\nX-Other: 1", "s3cr\u{e9}t"] {
            std::fs::write(&file, bad).unwrap();
            let error = Token::read(&file).unwrap_err();
            assert!(!error.contains("s3cr"), "{error}");
        }
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(Token::read(&file).is_err());
        assert!(Token::read(&folder.path().join("none")).is_err());
    }
}
