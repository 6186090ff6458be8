//! Function bodies stay near 70 lines, files near 500.

use super::sources;

const FUNCTION_LINES_MAX: usize = 75;
const FILE_LINES_MAX: usize = 560;

/// Functions of formatted code: from the line with `fn` to the closing brace of its indentation.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let is_function =
            code.starts_with("fn ") || (code.contains(" fn ") && !code.starts_with("//"));
        if !is_function || code.ends_with(';') || code.contains('"') {
            continue;
        }
        let closing = format!("{indent}}}");
        // A trait's function without a body ends with a semicolon, at the same indentation.
        let bodiless = |line: &str| line.starts_with(&format!("{indent})")) && line.ends_with(';');
        let end = lines[start..]
            .iter()
            .position(|line| *line == closing || line.ends_with(" }") || bodiless(line));
        if let Some(length) = end {
            found.push((start + 1, length + 1));
        }
    }
    found
}

#[test]
fn functions_and_files_stay_short() {
    let mut wrong = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines: has it two jobs?", source.path.display()));
        }
        for (line, length) in functions(&source.text) {
            if length > FUNCTION_LINES_MAX {
                wrong.push(format!(
                    "{}:{line}: a function of {length} lines",
                    source.path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_measure_sees_a_functions_length() {
    let text = "impl X {\n    pub fn long(\n        &self,\n    ) {\n        work();\n    }\n}\n";
    assert_eq!(functions(text), [(2, 5)]);
    let text = "trait X {\n    fn long(\n        &self,\n    ) -> u8;\n\n    fn other();\n}\n";
    assert_eq!(functions(text), [(2, 3)], "one without a body has its signature alone");
}
