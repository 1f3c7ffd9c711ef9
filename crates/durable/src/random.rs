//! Random bytes and names that cannot be guessed.

use std::io;

/// Random bytes from the system.
pub fn random_bytes<const LEN: usize>() -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// Twelve random letters and digits.
pub(crate) fn random_name() -> io::Result<String> {
    const LETTERS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZab";
    let bytes = random_bytes::<12>()?;
    let letters = bytes.map(|byte| char::from(LETTERS[usize::from(byte & 63)]));
    Ok(letters.into_iter().collect())
}
