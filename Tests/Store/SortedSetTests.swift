import Glibc
import RESP
import Testing

@testable import Store

/// The order that a sorted set must keep, done the slow way.
struct NaiveSortedSet {
    var scores: [[UInt8]: Double] = [:]

    var ordered: [(member: [UInt8], score: Double)] {
        scores.map { ($0.key, $0.value) }.sorted {
            $0.1 != $1.1 ? $0.1 < $1.1 : $0.0.lexicographicallyPrecedes($1.0)
        }
    }
}

/// Checks everything that a tree promises of its nodes.
func checkNodes(_ tree: SortedTree) -> String? {
    var leaves: [SortedTree.Leaf] = []
    func walk(_ node: SortedTree.Pointer, _ level: Int) -> (count: Int, first: UnsafeMutableRawPointer?, problem: String?) {
        if level == 0 {
            let leaf = SortedTree.Leaf(node)
            leaves.append(leaf)
            if leaf.count == 0, tree.state.pointee.height > 0 { return (0, nil, "an empty leaf") }
            for i in 0..<leaf.count where SortedElement(leaf.elements[i]).score != leaf.scores[i] { return (0, nil, "a wrong score in a leaf") }
            return (leaf.count, leaf.count > 0 ? leaf.elements[0] : nil, nil)
        }
        let inner = SortedTree.Inner(node)
        var total = 0
        var first: UnsafeMutableRawPointer?
        if inner.count == 0 { return (0, nil, "an empty inner node") }
        for i in 0..<inner.count {
            let below = walk(inner.children[i], level - 1)
            if let problem = below.problem { return (0, nil, problem) }
            if below.count != inner.counts[i] { return (0, nil, "a count of \(inner.counts[i]) for \(below.count)") }
            if i > 0, inner.elements[i] != below.first { return (0, nil, "a separator that is not the first element") }
            if i > 0, inner.scores[i] != SortedElement(below.first!).score { return (0, nil, "a separator with another score") }
            if i == 0 { first = below.first }
            total += below.count
        }
        return (total, first, nil)
    }
    let all = walk(tree.state.pointee.root, tree.state.pointee.height)
    if let problem = all.problem { return problem }
    if all.count != tree.count { return "\(tree.count) elements are said, \(all.count) are there" }
    var linked: SortedTree.Leaf? = tree.state.pointee.first
    var previous: SortedTree.Leaf?
    for leaf in leaves {
        if linked?.base != leaf.base || leaf.previous?.base != previous?.base { return "leaves in a wrong chain" }
        previous = leaf
        linked = leaf.next
    }
    if linked != nil || tree.state.pointee.last.base != previous?.base { return "a wrong end of the chain" }
    return nil
}

@Suite("sorted sets")
struct SortedSetTests {
    let heap = testHeap(3, 4)

    private func limits(_ entries: Int) -> SortedSet.Limits {
        let configuration = StoreConfiguration()
        configuration.sortedSetMaxListpackEntries = entries
        return SortedSet.Limits(configuration, heap)
    }

    private func compare(_ set: SortedSet, _ model: NaiveSortedSet, _ context: String) {
        let expected = model.ordered
        #expect(set.count == expected.count, "\(context)")
        var found: [([UInt8], Double)] = []
        set.forEach { found.append(($0.bytes, $1)) }
        #expect(found.elementsEqual(expected) { $0.0 == $1.member && $0.1 == $1.score }, "\(context): order")
        var reversed: [[UInt8]] = []
        set.forEach(from: 0, count: set.count, reversed: true) { member, _ in reversed.append(member.bytes) }
        #expect(reversed == expected.map(\.member).reversed(), "\(context): reversed order")
        if case .large(let index) = set.form {
            let problem = checkNodes(index.tree)
            #expect(problem == nil, "\(context): \(problem ?? "")")
            #expect(index.members.count == expected.count)
        }
    }

    /// Members and scores from small ranges, so that all cases of equality come up.
    @Test("random operations agree with a sorted array", arguments: [
        (0, 40, 5), (0, 3000, 3), (0, 3000, 1_000_000), (0, 20_000, 200), (128, 100, 50), (128, 400, 10), (16, 60, 3),
    ])
    func randomOperations(entries: Int, members: Int, scores: Int) {
        var generator = Seeded(UInt64(entries + members * 7 + scores))
        let limits = limits(entries)
        var set = entries == 0 ? SortedSet.makeLarge(limits.heap) : SortedSet.makeSmall(limits.heap)
        defer { set.release() }
        var model = NaiveSortedSet()
        let operations = members >= 3000 ? 60_000 : 6000
        for step in 0..<operations {
            // Phases of growing and shrinking.
            let isGrowing = step / (operations / 4) % 2 == 0
            let name = "m\(Int.random(in: 0..<members, using: &generator))"
            let score = Double(Int.random(in: 0..<scores, using: &generator)) / 2 - Double(scores) / 4
            withArgument(name) { member in
                switch Int.random(in: 0..<10, using: &generator) {
                case 0..<(isGrowing ? 8 : 3):
                    if let old = set.score(of: member) {
                        #expect(old == model.scores[member.bytes])
                        set.update(member, score)
                    } else {
                        #expect(model.scores[member.bytes] == nil)
                        set.add(member, score, limits)
                    }
                    model.scores[member.bytes] = score
                default:
                    let was = model.scores.removeValue(forKey: member.bytes) != nil
                    let isGone = set.remove(member)
                    #expect(isGone == was)
                }
            }
            if step % (operations / 20) == 0 { compare(set, model, "step \(step)") }
        }
        compare(set, model, "at the end")
        let ordered = model.ordered
        for (rank, pair) in ordered.enumerated() where rank % 7 == 0 {
            withArgument(pair.member) { member in
                let found = set.rank(of: member)
                #expect(found?.rank == rank)
                #expect(found?.score == pair.score)
            }
        }
        for _ in 0..<200 {
            let score = Double(Int.random(in: -1...scores, using: &generator)) / 2 - Double(scores) / 4
            #expect(set.count(below: score, orEqual: false) == ordered.count { $0.score < score })
            #expect(set.count(below: score, orEqual: true) == ordered.count { $0.score <= score })
            guard set.count > 0 else { break }
            let first = Int.random(in: 0..<set.count, using: &generator)
            let count = Int.random(in: 0...min(100, set.count - first), using: &generator)
            var found: [[UInt8]] = []
            set.forEach(from: first, count: count) { member, _ in found.append(member.bytes) }
            #expect(found == ordered[first..<first + count].map(\.member))
        }
        // Down to nothing by ranges.
        while set.count > 0 {
            let first = Int.random(in: 0..<set.count, using: &generator)
            let count = Int.random(in: 1...min(500, set.count - first), using: &generator)
            let gone = model.ordered[first..<first + count]
            for pair in gone { model.scores[pair.member] = nil }
            set.remove(from: first, count: count)
            if set.count % 5 == 0 { compare(set, model, "while removing ranges") }
        }
    }

    @Test("ascending, descending and equal scores")
    func regularOrders() {
        let limits = limits(0)
        for kind in 0..<3 {
            var set = SortedSet.makeLarge(limits.heap)
            var model = NaiveSortedSet()
            for i in 0..<20_000 {
                let score = kind == 0 ? Double(i) : kind == 1 ? Double(-i) : 0
                withArgument("element:\(i * 7919 % 20_000)") {
                    set.add($0, score, limits)
                    model.scores[$0.bytes] = score
                }
            }
            compare(set, model, "kind \(kind)")
            for i in stride(from: 0, to: 20_000, by: 2) {
                withArgument("element:\(i)") {
                    let isGone = set.remove($0)
                    #expect(isGone)
                    model.scores[$0.bytes] = nil
                }
            }
            compare(set, model, "kind \(kind), thinned out")
            while set.count > 10 { set.remove(from: 0, count: 1) }
            if case .large(let index) = set.form { #expect(checkNodes(index.tree) == nil) }
            set.release()
        }
    }

    @Test("a leaf filled in ascending order is left full")
    func ascendingFill() {
        let index = SortedIndex(heap)
        for i in 0..<10_000 { withArgument("e\(i)") { index.add($0, Double(i)) } }
        var leaves = 0
        var leaf: SortedTree.Leaf? = index.tree.state.pointee.first
        while let l = leaf {
            leaves += 1
            leaf = l.next
        }
        #expect(leaves <= 10_000 / SortedTree.leafMax + 2)
        index.release()
    }

    @Test("scores are read as strtod reads them")
    func scores() {
        for text in ["0", "-0", "1", "-1", "000000012345", "3.14", "-0.5", "123456789012345678", "9007199254740993", "0.1", "1e10", "inf",
                     "-inf", "+5", "5.", ".5", "0x10", "1.7976931348623157e308", "4.35", "2.675", "0.000001", "123456.789012", "5e-324"] {
            let expected = strtod(text, nil)
            withArgument(text) { argument in
                #expect(argument.score?.bitPattern == expected.bitPattern, "\(text)")
            }
        }
        for text in ["", "-", "abc", "1a", "nan", " 1", "1 ", "--1", "1.2.3", "."] {
            withArgument(text) { argument in #expect(argument.score == nil, "\(text)") }
        }
    }
}
