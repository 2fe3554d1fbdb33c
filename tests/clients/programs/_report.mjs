// How a client's program tells what came of a scenario: one line of JSON each. The counterpart of _report.py.

export const BASE_URL = process.argv[2];
export const KEY = "not-used";
// The model that is asked on each surface.
export const CHAT = "scripted";
export const RESPONSES = "scripted_async";

export const PLAIN = "hello there";
export const THINK = "think about it please";
export const WEATHER = "weather in Paris";
export const BOTH = "weather in Paris and Rome";
export const FAILURE = "fail midway";
export const TURNS = ["one", "two", "three"];

/** What a tool of the client's says. */
export const weather = (city) => `21 degrees in ${city}`;

const scenarios = [];

/** Register a function that gives, at once or later, what came of the scenario *name*, such as `chat plain`. */
export function scenario(name, run) {
  scenarios.push([name, run]);
}

/** An error in one line. */
export const problem = (error) => `${error?.name}: ${error?.message}`;

/** Run all scenarios, one after the other; one that throws is told as such. */
export async function run() {
  for (const [name, function_] of scenarios) {
    let result;
    try {
      result = await function_();
    } catch (error) {
      result = { raised: problem(error).slice(0, 2000) };
    }
    console.log(JSON.stringify({ scenario: name, ...result }));
  }
}
