import { Component, type ReactNode } from 'react';

import { Failure } from './State';

/** Keeps a fault of one page from taking the others with it. */
export class Boundary extends Component<{ children: ReactNode }, { error: Error | undefined }> {
  override state: { error: Error | undefined } = { error: undefined };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    if (!this.state.error) return this.props.children;
    return <Failure page error={this.state.error} retry={() => this.setState({ error: undefined })} />;
  }
}
