import Testing

@testable import Node

@Test("a file's kind is told from its name")
func placeholderForKinds() { #expect(Launch.version.contains("Redis")) }
