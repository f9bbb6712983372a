/** How an administrator makes a GitHub App for this server. */
export interface AppSetup {
  /** Origin of the website that makes it; null if that is not known, and so none can be made. */
  readonly origin: string | null
  /** What the form of the page posts, and where to. @param organization that will own the App; null: the user */
  form(organization: string | null, state: string): { action: string; manifest: string }
  /** Where the App is kept if there is one already; null if not. */
  existing(): string | null
  /** Gets the App for a code, and keeps it. @throws ConveyorError */
  complete(code: string): Promise<CompletedApp>
}

export interface CompletedApp {
  name: string
  /** Where it is installed on repositories. */
  installUrl: string
  /** Where it is kept. */
  file: string
  /** What else has to be done, one sentence each. */
  notes: string[]
}
