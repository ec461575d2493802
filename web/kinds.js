/** The kinds of files that can be uploaded, in words. */

const KINDS = { PDF: '.pdf', Word: '.docx', Markdown: '.md .markdown', HTML: '.html .htm .xhtml', CSV: '.csv .tsv', text: '.txt .text .log' };

/** Say what a server's limits allow: “PDF, Word or text, up to 25 MB”. */
export function kinds({ accept, maxUploadBytes }) {
  const known = Object.entries(KINDS).filter(([, endings]) => endings.split(' ').some((ending) => accept.includes(ending)));
  const others = accept.filter((ending) => !Object.values(KINDS).join(' ').split(' ').includes(ending));
  const names = [...known.map(([name]) => name), ...others];
  return `${names.slice(0, -1).join(', ')} or ${names.at(-1)}, up to ${Math.floor(maxUploadBytes / 1e6)}\u00a0MB`;
}
