// Answers that come bit by bit.

/** Server-sent events of an answer to any method, as they come: `{event, data}`, the data parsed. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s)));
      if (fields.data !== undefined) yield { event: fields.event ?? "message", data: JSON.parse(fields.data) };
    }
  }
}
