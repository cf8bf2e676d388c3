//! The library as other programs use it.

const GUIDE: &str = include_str!("../../src/rtmp/guide.md");

#[test]
fn programs_of_the_guide_are_its_examples() {
    let programs =
        [include_str!("../examples/publisher.rs"), include_str!("../examples/server.rs")];
    let examples: Vec<_> = GUIDE.split("```rust\n").skip(1).collect();
    assert_eq!(examples.len(), programs.len());
    for (example, program) in examples.into_iter().zip(programs) {
        let (example, _) = example.split_once("```").expect("the end of an example");
        let is_shown = |line: &&str| *line != "#" && !line.starts_with("# ");
        let shown: Vec<_> = example.lines().filter(is_shown).collect();
        assert!(shown.len() > 50, "an example of {} lines", shown.len());
        assert!(program.contains(&shown.join("\n")), "a program differs from this:\n{example}");
    }
}
