// Counts the suite's results by kind: node count.mjs SUITE RESULTS
//
// SUITE is the folder of the suite, RESULTS what its client printed. Prints one JSON object: for each
// kind the number of tests and of those that passed, and each test that did not, with what it said. A
// test counts as passed where all that it depends on passed too, as on the suite's own pages.
import { readFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'

const [suite, file] = process.argv.slice(2)
const { default: groups } = await import(pathToFileURL(`${suite}/tests/index.mjs`))
const results = JSON.parse(await readFile(file, 'utf8'))
const tests = groups.flatMap(group => group.tests).filter(test => !test.browser_only)
const known = new Map(tests.map(test => [test.id, test]))

function passed (id) {
  return results[id] === true && (known.get(id)?.depends_on ?? []).every(passed)
}

const kinds = {}
for (const test of tests) {
  const kind = test.kind ?? 'required'
  kinds[kind] ??= { tests: 0, passed: 0, missed: {} }
  kinds[kind].tests += 1
  if (passed(test.id)) kinds[kind].passed += 1
  else kinds[kind].missed[test.id] = results[test.id] === true ? 'a test it depends on' : String(results[test.id]?.[1])
}
console.log(JSON.stringify(kinds, null, 1))
