// A page whose network this process breaks: it reaches its relay through a link of its own.
import type { Link } from './links.ts';
import { Page, type PageOptions } from './page.ts';

export class Client extends Page {
  readonly link: Link;

  constructor(link: Link, options: Omit<PageOptions, 'port'>) {
    super({ ...options, port: link.port });
    this.link = link;
  }

  override async close(): Promise<void> {
    await super.close();
    await this.link.close();
  }
}
